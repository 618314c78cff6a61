// Calls one build of the kernel, compiled with the compiler's checks of memory or of threads, on
// buffers that are exactly as large as they have to be, and compares with sums written out.
//
// test_sanitizers.py compiles it, with HYENA_THIS_KERNEL the name of the build's function.
#include "builds.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

// In place of PyTorch's: two threads.
static int32_t two_threads(
    int64_t begin, int64_t end, int64_t grain, hyena_task task, void *context) {
    const int64_t half = (end - begin) / 2 > grain ? (end - begin) / 2 : grain;
    const int64_t middle = begin + half < end ? begin + half : end;
    std::thread first([=] { task(begin, middle, context); });
    if (middle < end) task(middle, end, context);
    first.join();
    return 0;
}
static int32_t count_of_two(uint32_t *count) {
    *count = 2;
    return 0;
}
extern "C" {
hyena_parallel_for hyena_parallel = two_threads;
hyena_thread_count hyena_threads = count_of_two;
}

namespace {

using Doubles = std::vector<double>;

int failures = 0;

// Numbers of the three kinds. What is drawn is exact in each.
constexpr int BYTES[] = {4, 2, 2};

void put(int dtype, uint8_t *to, double value) {
    const float number = float(value);
    uint32_t bits;
    memcpy(&bits, &number, 4);
    uint16_t narrow = uint16_t(bits >> 16);
    if (dtype == HYENA_FLOAT32) {
        memcpy(to, &number, 4);
        return;
    }
    if (dtype == HYENA_FLOAT16) {
        const int32_t exponent = int32_t(bits >> 23 & 255) - 112;
        narrow = uint16_t(bits >> 16 & 0x8000);
        if (value != 0) narrow = uint16_t(narrow | exponent << 10 | (bits >> 13 & 1023));
    }
    memcpy(to, &narrow, 2);
}

double get(int dtype, const uint8_t *from) {
    uint32_t bits = 0;
    float number;
    if (dtype == HYENA_FLOAT32) {
        memcpy(&number, from, 4);
        return number;
    }
    uint16_t narrow;
    memcpy(&narrow, from, 2);
    if (dtype == HYENA_BFLOAT16) {
        bits = uint32_t(narrow) << 16;
        memcpy(&number, &bits, 4);
        return number;
    }
    const int exponent = narrow >> 10 & 31, mantissa = narrow & 1023;
    double size = exponent == 31 ? NAN : std::ldexp(1024 * (exponent > 0) + mantissa, -25 + exponent);
    if (exponent == 0) size *= 2;
    return narrow & 0x8000 ? -size : size;
}

// An array (batch, channels, length) with unused numbers between rows, which begins `shift` numbers
// into memory that ends with its last number.
struct Array {
    int dtype;
    int64_t batch, channels, length, shift, channel_stride, batch_stride;
    std::vector<uint8_t> memory, before;

    Array(int type, int64_t B, int64_t D, int64_t L, int64_t gap)
        : dtype(type), batch(B), channels(D), length(L), shift(gap), channel_stride(L + gap),
          batch_stride(D * channel_stride + 2 * gap),
          memory(size_t(end() * BYTES[type]), uint8_t(0xFF)) {  // NaN of each kind
        before = memory;
    }
    int64_t at(int64_t b, int64_t d, int64_t t) const {
        return shift + b * batch_stride + d * channel_stride + t;
    }
    int64_t end() const { return at(batch - 1, channels - 1, length - 1) + 1; }
    void *data() { return memory.data() + shift * BYTES[dtype]; }
    uint8_t *place(int64_t i) { return memory.data() + i * BYTES[dtype]; }
    double value(int64_t b, int64_t d, int64_t t) { return get(dtype, place(at(b, d, t))); }
};

struct Case {
    int dtype, parts;
    int64_t channels, length, taps, lead;
    int short_taps, short_lead;
    std::vector<hyena_row> rows;
    bool spectrum, beside;  // beside: with skip, bias and offset
    int64_t gap;

    int64_t batch() const {
        int64_t most = 0;
        for (const hyena_row &row : rows)
            if (row.batch > most) most = row.batch;
        return most + 1;
    }
    void print(const char *what, double error) const {
        printf(
            "%s: error %.2e with dtype %d, %d parts, %d channels, length %d, %d taps from %d, %d "
            "short ones from %d, %d rows, spectrum %d, beside %d, gap %d\n",
            what, error, dtype, parts, int(channels), int(length), int(taps), int(-lead),
            short_taps, -short_lead, int(rows.size()), spectrum, beside, int(gap));
        ++failures;
    }
};

std::mt19937 &source() {
    static thread_local std::mt19937 generator(7);
    return generator;
}
double draw() { return (int(source()() % 255) - 127) / 64.0; }

void fill(Array &array) {
    for (int64_t b = 0; b < array.batch; ++b)
        for (int64_t d = 0; d < array.channels; ++d)
            for (int64_t t = 0; t < array.length; ++t)
                put(array.dtype, array.place(array.at(b, d, t)), draw());
}
std::vector<float> drawn(int64_t count) {
    std::vector<float> numbers;
    for (int64_t i = 0; i < count; ++i) numbers.push_back(float(draw()));
    return numbers;
}

// ||got - expected|| / ||expected|| within what is allowed.
void compare(
    const Case &c, const char *what, const Doubles &got, const Doubles &expected, double allowed) {
    double distance = 0, size = 1e-60;
    for (size_t i = 0; i < got.size(); ++i) {
        distance += (got[i] - expected[i]) * (got[i] - expected[i]);
        size += expected[i] * expected[i];
    }
    const double error = std::sqrt(distance / size);
    if (!(error <= allowed)) c.print(what, error);
}
// Float32 sums over rows: all of a call at once, since in few of them everything may cancel.
struct Sums {
    Doubles got, expected;
    void add(const std::vector<float> &found, const Doubles &wanted) {
        got.insert(got.end(), found.begin(), found.end());
        expected.insert(expected.end(), wanted.begin(), wanted.end());
    }
    void check(const Case &c) const { compare(c, "gradients that are sums", got, expected, 1e-5); }
};
// The numbers of the rows, against what they have to be; and that no others were written.
void compare(const Case &c, const char *what, Array &got, const Doubles &expected) {
    Doubles found;
    for (int64_t d = 0; d < got.channels; ++d)
        for (const hyena_row &row : c.rows)
            for (int64_t t = row.start; t < row.start + row.length; ++t) {
                found.push_back(got.value(row.batch, d, t));
                const int64_t i = got.at(row.batch, d, t);
                memcpy(got.place(i), got.before.data() + i * BYTES[got.dtype], BYTES[got.dtype]);
            }
    const double allowed[] = {3e-6, 8e-3, 1e-3};
    compare(c, what, found, expected, allowed[c.dtype]);
    if (got.memory != got.before) c.print("written beside the rows", NAN);
}

// The input: its array, its short filter, and what they give, rows one after the other.
struct Input {
    Array array;
    std::vector<float> taps, bias, offset;
    Doubles raw, value;  // with the offset; and after the short convolution, too

    Input(const Case &c, int64_t channels)
        : array(c.dtype, c.batch(), channels, c.length, c.gap),
          taps(drawn(channels * c.short_taps)), bias(drawn(channels)), offset(drawn(channels)) {
        fill(array);
        if (!c.beside) bias.clear(), offset.clear();
        for (int64_t d = 0; d < channels; ++d)
            for (const hyena_row &row : c.rows)
                for (int64_t t = 0; t < row.length; ++t) {
                    raw.push_back(array.value(row.batch, d, row.start + t));
                    if (c.beside) raw.back() += offset[size_t(d)];
                }
        convolve(c);
    }
    void convolve(const Case &c) {
        value = raw;
        if (c.short_taps == 0) return;
        size_t first = 0;
        for (int64_t d = 0; d < array.channels; ++d)
            for (const hyena_row &row : c.rows) {
                for (int64_t t = 0; t < row.length; ++t) {
                    double sum = c.beside ? bias[size_t(d)] : 0;
                    for (int j = 0; j < c.short_taps; ++j) {
                        const int64_t s = t - j + c.short_lead;
                        if (s >= 0 && s < row.length)
                            sum += double(taps[size_t(d * c.short_taps + j)]) * raw[first + size_t(s)];
                    }
                    value[first + size_t(t)] = sum;
                }
                first += size_t(row.length);
            }
    }
    // The call's convolution, but for the filter and y.
    hyena_conv argument(const Case &c, int parts) {
        hyena_conv conv{};
        conv.channels = c.channels, conv.rows = int64_t(c.rows.size()), conv.row = c.rows.data();
        conv.dtype = c.dtype, conv.parts = parts, conv.z = array.data();
        conv.z_batch_stride = array.batch_stride, conv.z_channel_stride = array.channel_stride;
        conv.offset = c.beside ? offset.data() : nullptr;
        conv.short_k = c.short_taps ? taps.data() : nullptr;
        conv.short_bias = c.short_taps && c.beside ? bias.data() : nullptr;
        conv.short_taps = c.short_taps, conv.short_lead = c.short_lead;
        return conv;
    }
};

// The gradients of the input, from that of its short convolution's output.
struct InputGradient {
    Array array;
    std::vector<float> taps, bias;
    Doubles expected, expected_taps, expected_bias;

    InputGradient(const Case &c, const Input &input, const Doubles &dx)
        : array(c.dtype, c.batch(), input.array.channels, c.length, c.gap),
          taps(input.taps.size(), NAN), bias(size_t(array.channels), NAN), expected(dx),
          expected_taps(taps.size()), expected_bias(bias.size()) {
        if (c.short_taps == 0) return;
        size_t first = 0;
        for (int64_t d = 0; d < array.channels; ++d)
            for (const hyena_row &row : c.rows) {
                for (int64_t t = 0; t < row.length; ++t) {
                    double sum = 0;
                    expected_bias[size_t(d)] += dx[first + size_t(t)];
                    for (int j = 0; j < c.short_taps; ++j) {
                        const size_t tap = size_t(d * c.short_taps + j);
                        const int64_t s = t + j - c.short_lead, back = t - j + c.short_lead;
                        if (s >= 0 && s < row.length)
                            sum += double(input.taps[tap]) * dx[first + size_t(s)];
                        if (back >= 0 && back < row.length)
                            expected_taps[tap] += dx[first + size_t(t)] * input.raw[first + size_t(back)];
                    }
                    expected[first + size_t(t)] = sum;
                }
                first += size_t(row.length);
            }
    }
    hyena_gradients argument(const Case &c, bool numbers, bool sums) {
        hyena_gradients to{};
        to.z = numbers ? array.data() : nullptr;
        to.z_batch_stride = array.batch_stride, to.z_channel_stride = array.channel_stride;
        to.short_k = sums && c.short_taps ? taps.data() : nullptr;
        to.short_bias = sums && c.short_taps ? bias.data() : nullptr;
        return to;
    }
    void check(const Case &c, bool numbers, Sums *sums) {
        if (numbers) compare(c, "gradient of the input", array, expected);
        if (!sums || c.short_taps == 0) return;
        sums->add(taps, expected_taps);
        sums->add(bias, expected_bias);
    }
};

// One of `parts` equal parts; and all of them.
Doubles part(const Doubles &all, int64_t index, int64_t parts) {
    const auto size = int64_t(all.size()) / parts;
    return Doubles(all.begin() + index * size, all.begin() + (index + 1) * size);
}
Doubles joined(Doubles first, const Doubles &second, const Doubles &third) {
    first.insert(first.end(), second.begin(), second.end());
    first.insert(first.end(), third.begin(), third.end());
    return first;
}
Doubles times(const Doubles &a, const Doubles &b) {
    Doubles product = a;
    for (size_t i = 0; i < a.size(); ++i) product[i] *= b[i];
    return product;
}

void check_short(const hyena_kernel &kernel, const Case &c) {
    Input input(c, c.channels);
    Array y(c.dtype, c.batch(), c.channels, c.length, c.gap), dy = y;
    fill(dy);
    hyena_conv conv = input.argument(c, 1);
    conv.y = y.data(), conv.y_batch_stride = y.batch_stride;
    conv.y_channel_stride = y.channel_stride;
    if (kernel.forward(&conv) != 0) c.print("forward of the short one has no memory", NAN);
    compare(c, "short convolution", y, input.value);
    Doubles dx;
    for (int64_t d = 0; d < c.channels; ++d)
        for (const hyena_row &row : c.rows)
            for (int64_t t = 0; t < row.length; ++t)
                dx.push_back(dy.value(row.batch, d, row.start + t));
    conv.y = dy.data();
    for (int wanted = 1; wanted < 4; ++wanted) {
        InputGradient gradient(c, input, dx);
        const hyena_gradients to = gradient.argument(c, wanted & 1, wanted & 2);
        if (kernel.backward(&conv, &to) != 0) c.print("backward of the short one has no memory", NAN);
        Sums sums;
        gradient.check(c, wanted & 1, wanted & 2 ? &sums : nullptr);
        sums.check(c);
    }
}

void check_long(const hyena_kernel &kernel, const Case &c) {
    Input input(c, c.parts * c.channels);
    const bool gates = c.parts == 3;
    const Doubles value = part(input.value, c.parts - 1, c.parts);
    const Doubles pre = part(input.value, gates, c.parts), post = part(input.value, 0, c.parts);
    Array y(c.dtype, c.batch(), c.channels, c.length, c.gap), dy = y;
    fill(dy);
    const std::vector<float> skip = drawn(c.beside ? c.channels : 0);
    std::vector<float> k = drawn(c.channels * (c.taps + c.gap) - c.gap);

    int64_t longest = 1;
    for (const hyena_row &row : c.rows)
        if (row.length > longest) longest = row.length;
    hyena_conv conv = input.argument(c, c.parts);
    conv.n = kernel.size(longest);
    conv.k = k.data(), conv.k_stride = c.taps + c.gap, conv.taps = c.taps, conv.lead = c.lead;
    conv.skip = c.beside ? skip.data() : nullptr;
    std::vector<float> spectrum;
    if (c.spectrum) {
        spectrum.resize(size_t(kernel.spectrum_floats(c.channels, conv.n)), NAN);
        if (kernel.spectrum(&conv, spectrum.data()) != 0) c.print("spectrum has no memory", NAN);
        conv.spectrum = spectrum.data();
        conv.k = conv.skip = nullptr;
    }
    conv.y = y.data(), conv.y_batch_stride = y.batch_stride;
    conv.y_channel_stride = y.channel_stride;

    // What it has to give. A tap of lag s carries u_(t - s) to s_t and ds_t to du_(t - s).
    const Doubles u = gates ? times(pre, value) : value;
    Doubles sum(u.size()), ds, du(u.size());
    Doubles dk(size_t(c.channels * c.taps)), dskip(size_t(c.channels));
    for (int64_t d = 0; d < c.channels; ++d)
        for (const hyena_row &row : c.rows)
            for (int64_t t = 0; t < row.length; ++t)
                ds.push_back(dy.value(row.batch, d, row.start + t));
    const Doubles gradient = ds;
    if (gates) ds = times(ds, post);
    size_t first = 0;
    for (int64_t d = 0; d < c.channels; ++d)
        for (const hyena_row &row : c.rows) {
            for (size_t t = first; t < first + size_t(row.length); ++t) {
                if (c.beside) {
                    sum[t] += skip[size_t(d)] * u[t], du[t] += skip[size_t(d)] * ds[t];
                    dskip[size_t(d)] += u[t] * ds[t];
                }
                for (int64_t j = 0; j < c.taps; ++j) {
                    const int64_t back = int64_t(t - first) - j + c.lead;
                    if (back < 0 || back >= row.length) continue;
                    const size_t from = first + size_t(back);
                    const double tap = k[size_t(d * (c.taps + c.gap) + j)];
                    sum[t] += tap * u[from], du[from] += tap * ds[t];
                    dk[size_t(d * c.taps + j)] += u[from] * ds[t];
                }
            }
            first += size_t(row.length);
        }
    if (kernel.forward(&conv) != 0) c.print("forward has no memory", NAN);
    compare(c, "convolution", y, gates ? times(post, sum) : sum);

    conv.y = dy.data();
    for (int wanted = 1; wanted < 8; wanted += wanted == 1 ? 5 : 1) {  // 1, 6 and 7
        const bool numbers = wanted & 1, sums = wanted & 2, filter = (wanted & 4) && !c.spectrum;
        InputGradient dz(
            c, input,
            gates ? joined(times(gradient, sum), times(du, value), times(du, pre)) : du);
        std::vector<float> found(dk.size(), NAN), skips(dskip.size(), NAN);
        hyena_gradients to = dz.argument(c, numbers, sums);
        if (filter) to.k = found.data(), to.skip = c.beside ? skips.data() : nullptr;
        if (kernel.backward(&conv, &to) != 0) c.print("backward has no memory", NAN);
        Sums total;
        dz.check(c, numbers, sums ? &total : nullptr);
        if (filter) total.add(found, dk);
        if (filter && c.beside) total.add(skips, dskip);
        total.check(c);
    }
}

// Shapes, each with the next of the dtypes, filters, short filters and so on.
std::vector<Case> cases() {
    std::vector<std::vector<hyena_row>> packings;
    for (int64_t L : {1, 2, 3, 5, 8, 15, 16, 17, 31, 33, 63, 65, 100, 130, 256, 257, 384, 385, 513,
                      700, 1025, 1500})
        packings.push_back({{0, 0, L}});
    packings.push_back({{0, 0, 70}, {1, 0, 70}, {2, 0, 70}});
    packings.push_back({{0, 0, 600}, {1, 0, 600}});
    packings.push_back({{0, 1, 3}, {0, 4, 1}, {1, 0, 40}, {1, 41, 9}});  // and some of no row
    packings.push_back({{0, 2, 390}, {0, 392, 5}, {0, 397, 403}, {2, 0, 800}});
    const int short_taps[] = {0, 3, 1, 2, 4, 5, 7, 64};
    std::vector<Case> all;
    int next = 0;
    for (const auto &rows : packings) {
        int64_t length = 0;
        for (const hyena_row &row : rows)
            if (row.start + row.length > length) length = row.start + row.length;
        for (int repeat = 0; repeat < 6; ++repeat, ++next) {
            Case c{};
            c.rows = rows, c.length = length;
            c.dtype = next % 3;
            c.parts = next / 3 % 2 ? 1 : 3;
            c.short_taps = short_taps[next % 8];
            const bool two_sided = next / 2 % 2;
            c.short_lead = two_sided ? (c.short_taps - 1) / 2 : 0;
            if (c.short_taps == 0) c.short_lead = 0;
            const int64_t few = 1 + length / (next % 2 ? 3 : 9);  // of the latter no transform is made
            c.taps = repeat % 3 == 0 ? length : repeat % 3 == 1 ? 2 * length + 1 : few;
            c.lead = two_sided ? (c.taps - 1) / 2 : 0;
            c.channels = length > 400 ? 1 + next % 3 : 1 + next * 7 % 35;
            c.spectrum = next % 5 == 0;
            c.beside = next % 4 != 0;
            c.gap = next % 7 == 0 ? 0 : next % 4;
            all.push_back(c);
        }
    }
    return all;
}

}  // namespace

#include "sanitized_modes.h"
#include "sanitized_steps.h"

// Argument: n to take every n-th shape.
int main(int count, char **arguments) {
    const hyena_kernel &kernel = *HYENA_THIS_KERNEL();
    const std::vector<Case> all = cases();
    const size_t step = count > 1 ? size_t(atoi(arguments[1])) : 1;
    // Each in a thread of its own, with new scratch memory, which the checks fill with NaN.
    for (size_t i = 0; i < all.size(); i += step) {
        const Case &c = all[i];
        std::thread([&] { check_short(kernel, c), check_long(kernel, c); }).join();
    }
    for (size_t i = 0; i < all.size(); i += 7 * step) {  // of more taps than gates come with
        Case c = all[i];
        c.short_taps = i % 2 ? 128 : 77, c.short_lead = i % 3 ? 0 : 38;
        std::thread([&] { check_short(kernel, c); }).join();
    }
    for (int64_t length : {1, 3, 16, 17, 127, 128, 129, 700})
        for (int parts : {1, 2})
            for (int64_t modes : {1, 5, 16, 33}) check_modes(kernel, int(length) % 3, parts, length, modes);
    for (int64_t D : {1, 15, 16, 257, 600})
        for (int order : {2, 4})
            for (int taps : {1, 3}) check_step(kernel, 3, D, order, taps, 5);
    check_linears(kernel);
    check_blocks(kernel);
    // And some in several at once, at sizes that none of them has used.
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i)
        threads.emplace_back([&] {
            for (int64_t length : {190, 330, 2000}) {
                Case c{};
                c.parts = 3, c.channels = 20, c.length = length, c.taps = 40, c.short_taps = 3;
                c.rows = {{0, 0, length}};
                check_long(kernel, c);
            }
        });
    for (std::thread &thread : threads) thread.join();
    printf("%s: %d of %d cases, %d failures\n", kernel.isa, int((all.size() - 1) / step + 1),
           int(all.size()), failures);
    return failures ? 1 : 0;
}
