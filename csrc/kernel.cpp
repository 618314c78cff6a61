// The kernel of one build: forward and backward passes over channels and rows, in threads.
//
// Compiled once for each instruction set, with HYENA_ISA_AVX512, HYENA_ISA_AVX2 or
// HYENA_ISA_PORTABLE defined. The definition of what it computes is hyena.ops.naive; the fallback
// without it is hyena.ops.fft.
#include "linear.h"
#include "rows.h"
#include "short_conv.h"
#include "step.h"
#include "threads.h"
#include "unit.h"

#include <algorithm>

namespace {

// Output of more bytes than this does not stay in cache until it is read.
constexpr int64_t LARGEST_CACHED = 16 << 20;

// Of longer rows the next one would push the present one out of the caches.
constexpr int64_t LONGEST_FETCHED = 131072;

template <class T>
bool is_large(const hyena_conv &conv, int64_t parts) {
    const int64_t positions = positions_of(conv.row, conv.rows) * conv.channels;
    return parts * positions * int64_t(sizeof(T)) > LARGEST_CACHED;
}

// The inputs of the row after row r of this channel, among these rows.
template <class T>
Ahead ahead_of(
    const hyena_conv &conv, const Unit &unit, const Share &rows, int64_t d, int64_t r,
    bool backward) {
    Ahead ahead{};
    if (r + 1 < rows.end)
        ++r;
    else if (rows.count() == conv.rows && ++d < conv.channels)
        r = 0;
    else
        return ahead;
    if (unit.width > 1 || unit.plan.n > LONGEST_FETCHED) return ahead;
    const hyena_row &row = conv.row[r];
    ahead.bytes = sizeof(T), ahead.positions = row.length;
    const hyena_input *inputs[] = {&conv.value, &conv.pre, &conv.post};
    for (int i = 0; i < 3; ++i)
        if (inputs[i]->data)
            ahead.stream[i] = reinterpret_cast<const char *>(
                static_cast<const T *>(inputs[i]->data) + row.batch * inputs[i]->batch_stride +
                d * inputs[i]->channel_stride + row.start);
    if (backward)
        ahead.stream[3] = reinterpret_cast<const char *>(
            static_cast<const T *>(conv.y) + row.batch * conv.y_batch_stride +
            d * conv.y_channel_stride + row.start);
    return ahead;
}

// These rows of a unit.
template <class T, int J>
void forward_unit(
    const hyena_conv &conv, const Unit &unit, int64_t index, const Share &these, float *memory) {
    float *scratch = memory;
    float *rows = scratch + unit.plan.scratch;
    float *lanes = rows + unit.real();
    // The filter's spectrum is given, is computed now for all rows, or, if there is only one, is
    // computed and used leaf by leaf.
    float *own = lanes + unit.lanes();
    float *both[2] = {scratch, own};
    const float *spectrum = own;
    const bool once = !conv.spectrum && these.count() == 1;
    if (conv.spectrum) {
        spectrum = conv.spectrum + index * unit.spectrum();
    } else if (once) {
        filter_down(conv, unit, index, own, rows, lanes);
    } else {
        filter_down(conv, unit, index, scratch, rows, lanes);
        visit(&scratch, unit, Keep{own});
    }
    const bool past_caches = is_large<T>(conv, 1);
    if (unit.width > 1) clear(rows, unit.real());
    for (int64_t r = these.begin; r < these.end; ++r) {
        const hyena_row &row = conv.row[r];
        for (int64_t d = unit.begin(index); d < unit.end(index); ++d) {
            float *u = rows + (d - unit.begin(index)) * unit.row;
            const auto value =
                source_of<T, J>(conv.value, row, d, conv.short_taps, conv.short_lead);
            if (conv.pre.data)
                product(
                    u, value, source_of<T, J>(conv.pre, row, d, conv.short_taps, conv.short_lead),
                    0, row.length);
            else
                product(u, value, Nothing{}, 0, row.length);
            clear(u + row.length, unit.row - row.length);
        }
        down<REAL>(rows, lanes, scratch, unit);
        const Ahead ahead = ahead_of<T>(conv, unit, these, unit.begin(index), r, false);
        if (once)
            visit(both, unit, FilterOnce{ahead});
        else
            visit(&scratch, unit, Filter{spectrum, ahead});
        up<REAL>(rows, lanes, scratch, unit);
        for (int64_t d = unit.begin(index); d < unit.end(index); ++d) {
            T *y = static_cast<T *>(conv.y) + row.batch * conv.y_batch_stride +
                   d * conv.y_channel_stride + row.start;
            const Plain s = plain(rows + (d - unit.begin(index)) * unit.row, row.length);
            const auto post = [&] {
                return source_of<T, J>(conv.post, row, d, conv.short_taps, conv.short_lead);
            };
            if (conv.post.data && past_caches && aligned(y))
                product<true>(y, post(), s, 0, row.length);
            else if (conv.post.data)
                product(y, post(), s, 0, row.length);
            else
                product(y, s, Nothing{}, 0, row.length);
        }
    }
}

template <class T, int J, class A, class B>
void input_gradient(
    const hyena_conv &conv, const hyena_gradient &to, const hyena_input &input, const hyena_row &row,
    int64_t d, const A a, const B b, TapSums &sums, float *piece, bool past_caches) {
    if (!to.data && !to.taps && !to.bias) return;
    T *dz = static_cast<T *>(to.data);
    if (dz) dz += row.batch * to.batch_stride + d * to.channel_stride + row.start;
    const auto z = source_of<T, J>(input, row, d, conv.short_taps, conv.short_lead);
    TapSums *wanted = to.taps || to.bias ? &sums : nullptr;
    if (dz && past_caches && aligned(dz))
        source_gradient<true>(dz, z, a, b, wanted, piece);
    else
        source_gradient(dz, z, a, b, wanted, piece);
}

// What each group of a unit's rows adds to the gradients that are sums over rows.
struct Sums {
    float *spectra;  // of the filters
    TapSums *taps;   // of post, pre and value, for each channel

    Sums of(const Unit &unit, int64_t group) const {
        return {spectra + group * unit.spectrum(), taps + group * 3 * unit.width};
    }
};

void write_taps(
    const hyena_conv &conv, const hyena_conv_gradients &to, const Unit &unit, int64_t index,
    const TapSums *taps) {
    for (int64_t d = unit.begin(index); d < unit.end(index); ++d) {
        const TapSums *of = taps + (d - unit.begin(index));
        write_sums(to.post, d, conv.short_taps, of[0]);
        write_sums(to.pre, d, conv.short_taps, of[unit.width]);
        write_sums(to.value, d, conv.short_taps, of[2 * unit.width]);
    }
}

// Rows of a unit, whole groups of them. The sums over rows go to `sums`, the unit's, if there are
// several groups.
template <class T, int J>
void backward_unit(
    const hyena_conv &conv, const hyena_conv_gradients &to, const Unit &unit, int64_t index,
    int64_t groups, const Share &these, const Sums *sums, float *memory) {
    const int64_t real = unit.real(), one = unit.plan.scratch;
    float *scratch[3] = {memory, memory + one, memory + 2 * one};
    float *u = scratch[2] + one, *g = u + real;  // later the output, and du
    float *lanes = g + real;
    float *piece = lanes + unit.lanes();
    float *own = piece + PIECE + 2 * MOST_TAPS;
    const bool want_k = to.k || to.skip;
    const bool want_post =
        conv.post.data && (to.post.data || to.post.taps || to.post.bias);
    const float *spectrum = own;
    const bool once = !conv.spectrum && conv.rows == 1;  // as in the forward pass, and all rows
    if (conv.spectrum) {
        spectrum = conv.spectrum + index * unit.spectrum();
    } else {
        filter_down(conv, unit, index, scratch[2], u, lanes);
        if (!once) visit(&scratch[2], unit, Keep{own});
    }
    if (unit.width > 1) clear(u, 2 * real);
    const bool past_caches = is_large<T>(conv, conv.pre.data ? 3 : 1);
    TapSums taps[3 * W] = {};
    const Sums all{own + unit.spectrum(), taps};
    const Share rows{
        share_of(conv.rows, these.begin, groups).begin,
        share_of(conv.rows, these.end - 1, groups).end};
    int64_t group = these.begin;
    Share current{rows.begin, rows.begin};
    Sums to_sums{};
    for (int64_t r = rows.begin; r < rows.end; ++r) {
        const bool first = r == current.end;  // of its group
        if (first) {
            current = share_of(conv.rows, group, groups);
            to_sums = sums ? sums->of(unit, group) : all;
            ++group;
        }
        const hyena_row &row = conv.row[r];
        auto source = [&](const hyena_input &input, int64_t d) {
            return source_of<T, J>(input, row, d, conv.short_taps, conv.short_lead);
        };
        auto output_gradient = [&](int64_t d) {
            const hyena_input dy{
                conv.y, conv.y_batch_stride, conv.y_channel_stride, nullptr, nullptr, nullptr};
            return source_of<T, 0>(dy, row, d, 0, 0);
        };
        for (int64_t d = unit.begin(index); d < unit.end(index); ++d) {
            const int64_t offset = (d - unit.begin(index)) * unit.row;
            if (conv.pre.data)
                product(u + offset, source(conv.value, d), source(conv.pre, d), 0, row.length);
            else
                product(u + offset, source(conv.value, d), Nothing{}, 0, row.length);
            if (conv.post.data)
                product(g + offset, source(conv.post, d), output_gradient(d), 0, row.length);
            else
                product(g + offset, output_gradient(d), Nothing{}, 0, row.length);
            clear(u + offset + row.length, unit.row - row.length);
            clear(g + offset + row.length, unit.row - row.length);
        }
        down<REAL>(u, lanes, scratch[0], unit);
        down<REAL>(g, lanes, scratch[1], unit);
        const Ahead ahead = ahead_of<T>(conv, unit, rows, unit.begin(index), r, true);
        if (once)
            visit(scratch, unit, DifferentiateOnce{ahead});
        else if (!want_k)
            visit(scratch, unit, Differentiate<false, false>{spectrum, nullptr, ahead});
        else if (first)
            visit(scratch, unit, Differentiate<true, false>{spectrum, to_sums.spectra, ahead});
        else
            visit(scratch, unit, Differentiate<true, true>{spectrum, to_sums.spectra, ahead});
        if (want_post) up<REAL>(u, lanes, scratch[0], unit);
        up<REAL>(g, lanes, scratch[1], unit);
        for (int64_t d = unit.begin(index); d < unit.end(index); ++d) {
            const int64_t c = d - unit.begin(index);
            const Plain y = plain(u + c * unit.row, row.length);
            const Plain du = plain(g + c * unit.row, row.length);
            TapSums *of = to_sums.taps + c;
            if (want_post)
                input_gradient<T, J>(
                    conv, to.post, conv.post, row, d, output_gradient(d), y, of[0], piece,
                    past_caches);
            if (!conv.pre.data) {
                input_gradient<T, J>(
                    conv, to.value, conv.value, row, d, du, Nothing{}, of[2 * unit.width], piece,
                    past_caches);
                continue;
            }
            input_gradient<T, J>(
                conv, to.pre, conv.pre, row, d, source(conv.value, d), du, of[unit.width], piece,
                past_caches);
            input_gradient<T, J>(
                conv, to.value, conv.value, row, d, source(conv.pre, d), du, of[2 * unit.width],
                piece, past_caches);
        }
    }
    if (sums) return;
    write_taps(conv, to, unit, index, taps);
    if (!want_k) return;
    if (!once) visit(&scratch[2], unit, Recall{all.spectra});
    filter_up(conv, to, unit, index, scratch[2], u, lanes);
}

struct Call {
    const hyena_conv *conv;
    const hyena_conv_gradients *gradients;
    float *spectrum;
    const Unit *unit;
    int64_t groups, parts;  // of the rows
    Sums sums;              // of all units' groups, if there are several

    Share rows(int64_t index) const { return share_of(conv->rows, index % parts, parts); }
    Share groups_in(int64_t index) const { return share_of(groups, index % parts, parts); }
};

template <class T, int J>
void forward_work(const void *call, int64_t index, float *memory) {
    const Call &c = *static_cast<const Call *>(call);
    forward_unit<T, J>(*c.conv, *c.unit, index / c.parts, c.rows(index), memory);
}
template <class T, int J>
void backward_work(const void *call, int64_t index, float *memory) {
    const Call &c = *static_cast<const Call *>(call);
    const int64_t unit = index / c.parts;
    const Sums sums = c.sums.of(*c.unit, unit * c.groups);
    backward_unit<T, J>(
        *c.conv, *c.gradients, *c.unit, unit, c.groups, c.groups_in(index),
        c.groups > 1 ? &sums : nullptr, memory);
}
// The sums of one unit's groups, added up.
void gather_work(const void *call, int64_t index, float *memory) {
    const Call &c = *static_cast<const Call *>(call);
    const Unit &unit = *c.unit;
    const Sums total = c.sums.of(unit, index * c.groups);
    const bool want_k = c.gradients->k || c.gradients->skip;
    for (int64_t group = 1; group < c.groups; ++group) {
        const Sums more = total.of(unit, group);
        for (int64_t i = 0; i < 3 * unit.width; ++i) total.taps[i] += more.taps[i];
        for (int64_t i = 0; want_k && i < unit.spectrum(); ++i) total.spectra[i] += more.spectra[i];
    }
    write_taps(*c.conv, *c.gradients, unit, index, total.taps);
    if (!want_k) return;
    float *rows = memory + unit.plan.scratch;
    visit(&memory, unit, Recall{total.spectra});
    filter_up(*c.conv, *c.gradients, unit, index, memory, rows, rows + unit.real());
}
void spectrum_work(const void *call, int64_t index, float *memory) {
    const Call &c = *static_cast<const Call *>(call);
    float *rows = memory + c.unit->plan.scratch;
    filter_down(*c.conv, *c.unit, index, memory, rows, rows + c.unit->real());
    visit(&memory, *c.unit, Keep{c.spectrum + index * c.unit->spectrum()});
}

int64_t kernel_size(int64_t length) { return size_for(length < 1 ? 1 : length); }

int64_t kernel_spectrum_floats(int64_t channels, int64_t n) {
    const int64_t width = in_lanes(n) ? W : 1;
    return (channels + width - 1) / width * width * 2 * n;
}

int32_t kernel_spectrum(const hyena_conv *conv, float *spectrum) {
    const Plan *plan = plan_of(conv->n, in_lanes(conv->n), W, WIDEST_RADIX);
    if (!plan) return 1;
    const Unit unit(*plan, conv->channels);
    const Call call{conv, nullptr, spectrum, &unit, 1, 1, {}};
    const int64_t floats = plan->scratch + unit.real() + unit.lanes();
    return run(spectrum_work, &call, unit.count(), floats, grain_of(plan->n * unit.width));
}

int32_t kernel_forward(const hyena_conv *conv) {
    const Plan *plan = plan_of(conv->n, in_lanes(conv->n), W, WIDEST_RADIX);
    if (!plan) return 1;
    const Unit unit(*plan, conv->channels);
    const int64_t positions = plan->n * unit.width;
    const int64_t groups = groups_of(unit.count(), conv->rows, positions);
    const int64_t parts = parts_of(unit.count(), conv->rows, groups);
    const Call call{conv, nullptr, nullptr, &unit, groups, parts, {}};
    int64_t floats = plan->scratch + unit.real() + unit.lanes();
    if (!conv->spectrum) floats += std::max(plan->scratch, unit.spectrum());
    return run(
        HYENA_CHOOSE(forward_work, conv->dtype, conv->short_taps), &call, unit.count() * parts,
        floats, grain_of(positions * (conv->rows / parts)));
}

int32_t kernel_backward(const hyena_conv *conv, const hyena_conv_gradients *gradients) {
    const Plan *plan = plan_of(conv->n, in_lanes(conv->n), W, WIDEST_RADIX);
    if (!plan) return 1;
    const Unit unit(*plan, conv->channels);
    const int64_t positions = plan->n * unit.width;
    const int64_t groups = groups_of(unit.count(), conv->rows, positions);
    const int64_t parts = parts_of(unit.count(), conv->rows, groups);
    const bool want_k = gradients->k || gradients->skip;
    const int64_t sums = groups > 1 ? unit.count() * groups : 0;
    const Shared<float> spectra(want_k ? sums * unit.spectrum() : 0);
    const Shared<TapSums> taps(sums * 3 * unit.width);
    if (spectra.failed || taps.failed) return 1;
    const Call call{conv, gradients, nullptr, &unit, groups, parts, {spectra.data, taps.data}};
    const bool once = !conv->spectrum && conv->rows == 1;
    const int64_t floats = 3 * plan->scratch + 2 * unit.real() + unit.lanes() + PIECE +
                           2 * MOST_TAPS + (once ? 0 : 2 * unit.spectrum());
    const int32_t failed =
        run(HYENA_CHOOSE(backward_work, conv->dtype, conv->short_taps), &call,
            unit.count() * parts, floats, grain_of(positions * (conv->rows / parts)));
    if (failed || groups == 1) return failed;
    return run(
        gather_work, &call, unit.count(), plan->scratch + unit.real() + unit.lanes(),
        grain_of(positions));
}

constexpr int CHAINS = WIDEST_RADIX == 8 ? 6 : 3;  // as many as the registers hold

void butterflies_work(const void *call, int64_t, float *memory) {
    const C w = {broadcast(0.1f), broadcast(0.2f)};
    C x[CHAINS], y[CHAINS];
    for (int i = 0; i < CHAINS; ++i) x[i] = y[i] = {broadcast(1.0f), broadcast(float(i))};
    for (int64_t round = *static_cast<const int64_t *>(call); round > 0; --round)
        for (int i = 0; i < CHAINS; ++i) split(x[i], y[i], w);
    for (int i = 0; i < CHAINS; ++i) store_complex(memory + i * 2 * W, x[i] + y[i]);
}

int64_t kernel_butterflies(int64_t tasks, int64_t rounds) {
    run(butterflies_work, &rounds, tasks, CHAINS * 2 * W, 1);
    return tasks * rounds * CHAINS * W * 10;
}

}  // namespace

#if defined(HYENA_ISA_AVX512)
#define HYENA_THIS_KERNEL hyena_kernel_avx512
#define HYENA_THIS_NAME "avx512"
#elif defined(HYENA_ISA_AVX2)
#define HYENA_THIS_KERNEL hyena_kernel_avx2
#define HYENA_THIS_NAME "avx2"
#else
#define HYENA_THIS_KERNEL hyena_kernel_portable
#define HYENA_THIS_NAME "portable"
#endif

extern "C" const hyena_kernel *HYENA_THIS_KERNEL(void) {
    static const hyena_kernel kernel = {
        HYENA_THIS_NAME,      kernel_size,     kernel_spectrum_floats,
        kernel_spectrum,      kernel_forward,  kernel_backward,
        kernel_short_forward, kernel_short_backward, kernel_step,
        kernel_linear,        kernel_butterflies,
    };
    return &kernel;
}
