// The kernel of one build: forward and backward passes over channels and rows, in threads.
//
// Compiled once for each instruction set, with HYENA_ISA_AVX512, HYENA_ISA_AVX2 or
// HYENA_ISA_PORTABLE defined. The definition of what it computes is hyena.ops.naive; the fallback
// without it is hyena.ops.fft.
#include "rows.h"
#include "short_conv.h"
#include "threads.h"
#include "unit.h"

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

// The inputs of the row after row r of this channel.
template <class T>
Ahead ahead_of(const hyena_conv &conv, const Unit &unit, int64_t d, int64_t r, bool backward) {
    Ahead ahead{};
    if (r + 1 < conv.rows)
        ++r;
    else if (++d < conv.channels)
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

template <class T, int J>
void forward_unit(const hyena_conv &conv, const Unit &unit, int64_t index, float *memory) {
    float *scratch = memory;
    float *rows = scratch + unit.plan.scratch;
    float *lanes = rows + unit.real();
    // The filter's spectrum is given, is computed now for all rows, or, if there is only one, is
    // computed and used leaf by leaf.
    float *own = lanes + unit.lanes();
    float *both[2] = {scratch, own};
    const float *spectrum = own;
    const bool once = !conv.spectrum && conv.rows == 1;
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
    for (int64_t r = 0; r < conv.rows; ++r) {
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
        const Ahead ahead = ahead_of<T>(conv, unit, unit.begin(index), r, false);
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

template <class T, int J>
void backward_unit(
    const hyena_conv &conv, const hyena_conv_gradients &to, const Unit &unit, int64_t index,
    float *memory) {
    const int64_t real = unit.real(), one = unit.plan.scratch;
    float *scratch[3] = {memory, memory + one, memory + 2 * one};
    float *u = scratch[2] + one, *g = u + real;  // later the output, and du
    float *lanes = g + real;
    float *piece = lanes + unit.lanes();
    float *own = piece + PIECE + 2 * MOST_TAPS, *dk = own + unit.spectrum();
    const bool want_k = to.k || to.skip;
    const bool want_post =
        conv.post.data && (to.post.data || to.post.taps || to.post.bias);
    const float *spectrum = own;
    const bool once = !conv.spectrum && conv.rows == 1;  // as in the forward pass
    if (conv.spectrum) {
        spectrum = conv.spectrum + index * unit.spectrum();
    } else {
        filter_down(conv, unit, index, scratch[2], u, lanes);
        if (!once) visit(&scratch[2], unit, Keep{own});
    }
    if (unit.width > 1) clear(u, 2 * real);
    const bool past_caches = is_large<T>(conv, conv.pre.data ? 3 : 1);
    TapSums sums[3][W] = {};
    for (int64_t r = 0; r < conv.rows; ++r) {
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
        const Ahead ahead = ahead_of<T>(conv, unit, unit.begin(index), r, true);
        if (once)
            visit(scratch, unit, DifferentiateOnce{ahead});
        else if (!want_k)
            visit(scratch, unit, Differentiate<false, false>{spectrum, nullptr, ahead});
        else if (r == 0)
            visit(scratch, unit, Differentiate<true, false>{spectrum, dk, ahead});
        else
            visit(scratch, unit, Differentiate<true, true>{spectrum, dk, ahead});
        if (want_post) up<REAL>(u, lanes, scratch[0], unit);
        up<REAL>(g, lanes, scratch[1], unit);
        for (int64_t d = unit.begin(index); d < unit.end(index); ++d) {
            const int64_t c = d - unit.begin(index);
            const Plain y = plain(u + c * unit.row, row.length);
            const Plain du = plain(g + c * unit.row, row.length);
            if (want_post)
                input_gradient<T, J>(
                    conv, to.post, conv.post, row, d, output_gradient(d), y, sums[0][c], piece, past_caches);
            if (!conv.pre.data) {
                input_gradient<T, J>(
                    conv, to.value, conv.value, row, d, du, Nothing{}, sums[2][c], piece, past_caches);
                continue;
            }
            input_gradient<T, J>(
                conv, to.pre, conv.pre, row, d, source(conv.value, d), du, sums[1][c], piece, past_caches);
            input_gradient<T, J>(
                conv, to.value, conv.value, row, d, source(conv.pre, d), du, sums[2][c], piece, past_caches);
        }
    }
    for (int64_t d = unit.begin(index); d < unit.end(index); ++d) {
        const int64_t c = d - unit.begin(index);
        write_sums(to.post, d, conv.short_taps, sums[0][c]);
        write_sums(to.pre, d, conv.short_taps, sums[1][c]);
        write_sums(to.value, d, conv.short_taps, sums[2][c]);
    }
    if (!want_k) return;
    if (!once) visit(&scratch[2], unit, Recall{dk});
    filter_up(conv, to, unit, index, scratch[2], u, lanes);
}

struct Call {
    const hyena_conv *conv;
    const hyena_conv_gradients *gradients;
    float *spectrum;
    const Unit *unit;
};

template <class T, int J>
void forward_work(const void *call, int64_t index, float *memory) {
    const Call &c = *static_cast<const Call *>(call);
    forward_unit<T, J>(*c.conv, *c.unit, index, memory);
}
template <class T, int J>
void backward_work(const void *call, int64_t index, float *memory) {
    const Call &c = *static_cast<const Call *>(call);
    backward_unit<T, J>(*c.conv, *c.gradients, *c.unit, index, memory);
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
    const Call call{conv, nullptr, spectrum, &unit};
    const int64_t floats = plan->scratch + unit.real() + unit.lanes();
    return run(spectrum_work, &call, unit.count(), floats, grain_of(plan->n * unit.width));
}

int32_t kernel_forward(const hyena_conv *conv) {
    const Plan *plan = plan_of(conv->n, in_lanes(conv->n), W, WIDEST_RADIX);
    if (!plan) return 1;
    const Unit unit(*plan, conv->channels);
    const Call call{conv, nullptr, nullptr, &unit};
    int64_t floats = plan->scratch + unit.real() + unit.lanes();
    if (!conv->spectrum) floats += conv->rows == 1 ? plan->scratch : unit.spectrum();
    return run(
        HYENA_CHOOSE(forward_work, conv->dtype, conv->short_taps), &call, unit.count(), floats,
        grain_of(plan->n * unit.width * conv->rows));
}

int32_t kernel_backward(const hyena_conv *conv, const hyena_conv_gradients *gradients) {
    const Plan *plan = plan_of(conv->n, in_lanes(conv->n), W, WIDEST_RADIX);
    if (!plan) return 1;
    const Unit unit(*plan, conv->channels);
    const Call call{conv, gradients, nullptr, &unit};
    const bool once = !conv->spectrum && conv->rows == 1;
    const int64_t floats = 3 * plan->scratch + 2 * unit.real() + unit.lanes() + PIECE +
                           2 * MOST_TAPS + (once ? 0 : 2 * unit.spectrum());
    return run(
        HYENA_CHOOSE(backward_work, conv->dtype, conv->short_taps), &call, unit.count(), floats,
        grain_of(plan->n * unit.width * conv->rows));
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
        kernel_short_forward, kernel_short_backward, kernel_butterflies,
    };
    return &kernel;
}
