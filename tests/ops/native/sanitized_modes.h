// What `sanitized.cpp` checks of convolutions with sums of exponentials. Included by it, after its
// arrays and comparisons.
#pragma once

#include <complex>

namespace {

using Complexes = std::vector<std::complex<double>>;

// Modes of a channel after the other, in memory that ends with the last of them.
template <class Real = float>
struct Modes {
    int parts;
    std::vector<Real> numbers;

    Modes(int p, int64_t count) : parts(p) {
        const std::vector<float> all = drawn(count * p);
        numbers.assign(all.begin(), all.end());
    }
    std::complex<double> at(int64_t i) const {
        const size_t first = size_t(i * parts);
        return {double(numbers[first]), parts == 2 ? double(numbers[first + 1]) : 0.0};
    }
};
template <class Real>
void compare(const Case &c, const char *what, const Modes<Real> &got, const Complexes &expected) {
    Doubles found, wanted;
    for (size_t i = 0; i < expected.size(); ++i) {
        const std::complex<double> number = got.at(int64_t(i));
        found.insert(found.end(), {number.real(), number.imag()});
        wanted.insert(wanted.end(), {expected[i].real(), expected[i].imag()});
    }
    compare(c, what, found, wanted, 1e-5);
}

// By the recurrence, position by position, and its adjoint.
void check_modes(const hyena_kernel &kernel, int dtype, int parts, int64_t length, int64_t modes) {
    Case c{};
    c.dtype = dtype, c.parts = parts, c.channels = 3, c.length = length, c.taps = modes;
    c.rows = {{0, 0, length}, {1, 0, length}}, c.gap = length % 3;
    const int64_t B = 2, D = c.channels;
    Array u(dtype, B, D, length, c.gap), y = u, dy = u, du = u;
    fill(u), fill(dy);
    Modes<double> log_decay(parts, D * modes);
    Modes<> weight(parts, D * modes), state(parts, B * D * modes), after = state;
    for (size_t i = 0; i < log_decay.numbers.size(); i += size_t(parts))
        log_decay.numbers[i] = -0.01 - 0.2 * std::fabs(log_decay.numbers[i]);
    const std::vector<float> skip = drawn(D);
    Modes<double> dlog = log_decay;
    Modes<> dweight = weight, dstate = state;
    std::vector<float> dskip(size_t(D), NAN);
    std::fill(dlog.numbers.begin(), dlog.numbers.end(), NAN);
    for (Modes<> *gradient : {&after, &dweight, &dstate})
        std::fill(gradient->numbers.begin(), gradient->numbers.end(), NAN);

    Complexes x_after(size_t(B * D * modes)), dx(x_after.size());
    Complexes da(size_t(D * modes)), dw(size_t(D * modes));
    Doubles y_wanted(size_t(B * D * length)), du_wanted(y_wanted.size());
    Doubles dskip_wanted(size_t(D), 0.0);
    for (int64_t d = 0; d < D; ++d)
        for (int64_t b = 0; b < B; ++b) {
            const size_t row = size_t((d * B + b) * length);
            for (int64_t t = 0; t < length; ++t) {
                const double in = u.value(b, d, t), g = dy.value(b, d, t);
                y_wanted[row + size_t(t)] = skip[size_t(d)] * in;
                du_wanted[row + size_t(t)] = skip[size_t(d)] * g;
                dskip_wanted[size_t(d)] += in * g;
            }
            for (int64_t s = 0; s < modes; ++s) {
                const int64_t mode = d * modes + s, of_row = (b * D + d) * modes + s;
                const std::complex<double> a = std::exp(log_decay.at(mode)), w = weight.at(mode);
                Complexes x = {state.at(of_row)};
                for (int64_t t = 0; t < length; ++t) {
                    x.push_back(a * x.back() + u.value(b, d, t));
                    y_wanted[row + size_t(t)] += (w * x.back()).real();
                    dw[size_t(mode)] += dy.value(b, d, t) * std::conj(x.back());
                }
                x_after[size_t(of_row)] = x.back();
                std::complex<double> behind = 0;
                for (int64_t t = length - 1; t >= 0; --t) {
                    behind = std::conj(a) * behind + std::conj(w) * dy.value(b, d, t);
                    du_wanted[row + size_t(t)] += behind.real();
                    da[size_t(mode)] += behind * std::conj(a * x[size_t(t)]);
                }
                dx[size_t(of_row)] = std::conj(a) * behind;
            }
        }

    hyena_conv conv{};
    conv.channels = D, conv.rows = B, conv.row = c.rows.data(), conv.dtype = dtype, conv.parts = 1;
    conv.z = u.data(), conv.z_batch_stride = u.batch_stride;
    conv.z_channel_stride = u.channel_stride, conv.skip = skip.data();
    conv.y = y.data(), conv.y_batch_stride = y.batch_stride;
    conv.y_channel_stride = y.channel_stride;
    const hyena_modes given = {
        modes, parts, log_decay.numbers.data(), weight.numbers.data(), state.numbers.data(),
        after.numbers.data()};
    if (kernel.modal(&conv, &given) != 0) c.print("modes have no memory", NAN);
    compare(c, "convolution with modes", y, y_wanted);
    compare(c, "state after", after, x_after);

    conv.y = dy.data();
    hyena_gradients to{};
    to.z = du.data(), to.z_batch_stride = du.batch_stride;
    to.z_channel_stride = du.channel_stride, to.skip = dskip.data();
    const hyena_modes_gradients of_modes = {
        dlog.numbers.data(), dweight.numbers.data(), dstate.numbers.data()};
    if (kernel.modal_backward(&conv, &to, &given, &of_modes) != 0)
        c.print("gradients of modes have no memory", NAN);
    compare(c, "gradient of the input of modes", du, du_wanted);
    compare(c, "gradient of decays", dlog, da);
    compare(c, "gradient of weights", dweight, dw);
    compare(c, "gradient of the state", dstate, dx);
    compare(c, "gradient of the skip", Doubles(dskip.begin(), dskip.end()), dskip_wanted, 1e-5);
}

}  // namespace
