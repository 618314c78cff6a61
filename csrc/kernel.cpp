// The kernel of one build: forward and backward passes over channels and rows, in threads.
//
// Compiled once for each instruction set, with HYENA_ISA_AVX512, HYENA_ISA_AVX2 or
// HYENA_ISA_PORTABLE defined. The definition of what it computes is hyena.ops.naive; the fallback
// without it is hyena.ops.fft.
#include "hyena_kernel.h"
#include "plan.h"
#include "rows.h"
#include "transform.h"

extern "C" hyena_parallel_for hyena_parallel;

namespace {

// Up to here channels lie side by side in a vector; beyond, the scratch of W rows leaves the cache.
constexpr int64_t LONGEST_IN_LANES = 384;

// Output of more bytes than this does not stay in cache until it is read.
constexpr int64_t LARGEST_CACHED = 16 << 20;

// Of longer rows the next one would push the present one out of the caches.
constexpr int64_t LONGEST_FETCHED = 131072;

bool in_lanes(int64_t n) { return n <= LONGEST_IN_LANES; }

int64_t size_for(int64_t length) {
    const int64_t lanes = size_at_least(length, true, W, WIDEST_RADIX);
    if (lanes > 0 && in_lanes(lanes)) return lanes;
    const int64_t least = length > LONGEST_IN_LANES ? length : LONGEST_IN_LANES + 1;
    return size_at_least(least, false, W, WIDEST_RADIX);
}

// What a thread works with. A unit is one channel, or W of them side by side.
struct Unit {
    const Plan &plan;
    int64_t channels;  // D
    int64_t width;     // channels of a unit: 1 or W
    int64_t row;       // floats of a row buffer

    explicit Unit(const Plan &p, int64_t D)
        : plan(p), channels(D), width(p.channel_lanes ? W : 1), row((p.n + W - 1) / W * W) {}
    int64_t count() const { return (channels + width - 1) / width; }
    int64_t real() const { return row * width; }            // floats of a unit's rows
    int64_t spectrum() const { return 2 * plan.n * width; }  // and of its spectra
    int64_t begin(int64_t unit) const { return unit * width; }
    int64_t end(int64_t unit) const {
        const int64_t e = (unit + 1) * width;
        return e < channels ? e : channels;
    }
};

// W rows of n positions <-> n vectors of W channels.
void transpose_rows(const float *rows, float *lanes, const Unit &unit, bool back) {
    for (int64_t t = 0; t < unit.row; t += W) {
        V x[W];
        for (int i = 0; i < W; ++i)
            x[i] = load(back ? lanes + (t + i) * W : rows + i * unit.row + t);
        for (int g = 0; g < GROUPS; ++g)
            transpose4(x[4 * g], x[4 * g + 1], x[4 * g + 2], x[4 * g + 3]);
        for (int a = 0; a < 4; ++a) {
            V q[GROUPS];
            for (int g = 0; g < GROUPS; ++g) q[g] = x[4 * g + a];
            exchange_groups(q);
            for (int g = 0; g < GROUPS; ++g) x[4 * g + a] = q[g];
        }
        for (int i = 0; i < W; ++i) {
            float *to = back ? const_cast<float *>(rows) + i * unit.row + t : lanes + (t + i) * W;
            store(to, x[i]);
        }
    }
}

// rows -> scratch; `lanes` is room for a unit's rows transposed.
template <Part PART>
void down(const float *rows, float *lanes, float *scratch, const Unit &unit) {
    if (unit.plan.channel_lanes) {
        transpose_rows(rows, lanes, unit, false);
        rows = lanes;
    }
    root_down<PART>(rows, scratch, unit.plan);
}
template <Part PART>
void up(float *rows, float *lanes, const float *scratch, const Unit &unit) {
    if (!unit.plan.channel_lanes) return root_up<PART>(rows, scratch, unit.plan);
    root_up<PART>(lanes, scratch, unit.plan);
    transpose_rows(rows, lanes, unit, true);
}

template <class Use>
void visit(float *const *scratch, const Unit &unit, const Use &use) {
    visit_children(scratch, unit.plan, use, 0, 0);
}

void clear(float *to, int64_t count) { memset(to, 0, size_t(count) * sizeof(float)); }

// A unit's filters, divided by n, at the root. A tap of negative lag -m is i Z^(n-m), so a two-sided
// filter is a complex row.
void filter_down(
    const hyena_conv &conv, const Unit &unit, int64_t index, float *scratch, float *rows,
    float *lanes) {
    const int64_t n = unit.plan.n;
    const float scale = 1.0f / float(n);
    const bool two_sided = conv.lead > 0;
    for (int side = 0; side < (two_sided ? 2 : 1); ++side) {
        clear(rows, unit.real());
        for (int64_t d = unit.begin(index); d < unit.end(index); ++d) {
            const float *k = conv.k + d * conv.k_stride + conv.lead;  // k[lag]
            float *row = rows + (d - unit.begin(index)) * unit.row;
            if (side == 0) {
                const int64_t most = conv.taps - conv.lead < n ? conv.taps - conv.lead : n;
                for (int64_t t = 0; t < most; ++t) row[t] = k[t] * scale;
                if (conv.skip) row[0] += conv.skip[d] * scale;
            } else {
                for (int64_t m = 1; m <= conv.lead && m < n; ++m) row[n - m] = k[-m] * scale;
            }
        }
        if (side == 0)
            down<REAL>(rows, lanes, scratch, unit);
        else
            down<IMAGINARY>(rows, lanes, scratch, unit);
    }
}

// The gradients of a unit's filters from the root; taps that reach past the longest row have none.
void filter_up(
    const hyena_conv &conv, const hyena_conv_gradients &to, const Unit &unit, int64_t index,
    const float *scratch, float *rows, float *lanes) {
    const int64_t n = unit.plan.n;
    const float scale = 1.0f / float(n);
    int64_t longest = 0;
    for (int64_t r = 0; r < conv.rows; ++r)
        if (conv.row[r].length > longest) longest = conv.row[r].length;
    const bool two_sided = conv.lead > 0;
    for (int side = 0; side < (two_sided ? 2 : 1); ++side) {
        if (side == 0)
            up<REAL>(rows, lanes, scratch, unit);
        else
            up<IMAGINARY>(rows, lanes, scratch, unit);
        for (int64_t d = unit.begin(index); d < unit.end(index); ++d) {
            const float *row = rows + (d - unit.begin(index)) * unit.row;
            if (side == 0 && to.skip) to.skip[d] = longest > 0 ? row[0] * scale : 0;
            if (!to.k) continue;
            float *dk = to.k + d * conv.taps + conv.lead;
            if (side == 0) {
                const int64_t taps = conv.taps - conv.lead;
                const int64_t most = taps < longest ? taps : longest;
                for (int64_t t = 0; t < most; ++t) dk[t] = row[t] * scale;
                for (int64_t t = most; t < taps; ++t) dk[t] = 0;
            } else {
                for (int64_t m = 1; m <= conv.lead; ++m)
                    dk[-m] = m < longest ? row[n - m] * scale : 0;
            }
        }
    }
}

int64_t positions_of(const hyena_row *row, int64_t rows) {
    int64_t total = 0;
    for (int64_t r = 0; r < rows; ++r) total += row[r].length;
    return total;
}

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
    float *own = lanes + (unit.width > 1 ? unit.real() : 0);
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

void write_sums(const hyena_gradient &to, int64_t d, int count, const TapSums &sums) {
    if (to.taps)
        for (int j = 0; j < count; ++j) to.taps[d * count + j] = float(sums.taps[j]);
    if (to.bias) to.bias[d] = float(sums.bias);
}

template <class T, int J>
void backward_unit(
    const hyena_conv &conv, const hyena_conv_gradients &to, const Unit &unit, int64_t index,
    float *memory) {
    const int64_t real = unit.real(), one = unit.plan.scratch;
    float *scratch[3] = {memory, memory + one, memory + 2 * one};
    float *u = scratch[2] + one, *g = u + real;  // later the output, and du
    float *lanes = g + real;
    float *piece = lanes + (unit.width > 1 ? real : 0);
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

// Threads.

using UnitWork = void (*)(const void *call, int64_t index, float *memory);

struct Task {
    UnitWork work;
    const void *call;
    int64_t floats;
    int failed;
};

void run_task(int64_t begin, int64_t end, void *context) {
    Task &task = *static_cast<Task *>(context);
    float *memory = workspace(task.floats);
    if (!memory) {
        task.failed = 1;
        return;
    }
    for (int64_t i = begin; i < end; ++i) task.work(task.call, i, memory);
    fence();
}

// Runs work over units, at least `grain` of them a thread; 1 if a thread had no memory.
int32_t run(UnitWork work, const void *call, int64_t units, int64_t floats, int64_t grain) {
    Task task{work, call, floats, 0};
    if (hyena_parallel && units > grain) {
        if (hyena_parallel(0, units, grain, run_task, &task) != 0) return 1;
    } else {
        run_task(0, units, &task);
    }
    return task.failed;
}

constexpr int64_t LEAST_WORK = 16384;  // positions that are worth a thread

int64_t grain_of(int64_t positions) {
    return positions > 0 && positions < LEAST_WORK ? (LEAST_WORK + positions - 1) / positions : 1;
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

// The instance of a template over dtype and short taps.
#define HYENA_CHOOSE(function, dtype, taps)                              \
    (dtype == HYENA_FLOAT32    ? HYENA_CHOOSE_TAPS(function, float, taps) \
     : dtype == HYENA_BFLOAT16 ? HYENA_CHOOSE_TAPS(function, Bfloat16, taps) \
                               : HYENA_CHOOSE_TAPS(function, Float16, taps))
#define HYENA_CHOOSE_TAPS(function, T, taps) \
    (taps == 0 ? function<T, 0> : taps == 3 ? function<T, 3> : function<T, -1>)

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
    const int64_t floats = plan->scratch + 2 * unit.real();
    return run(spectrum_work, &call, unit.count(), floats, grain_of(plan->n * unit.width));
}

int32_t kernel_forward(const hyena_conv *conv) {
    const Plan *plan = plan_of(conv->n, in_lanes(conv->n), W, WIDEST_RADIX);
    if (!plan) return 1;
    const Unit unit(*plan, conv->channels);
    const Call call{conv, nullptr, nullptr, &unit};
    int64_t floats = plan->scratch + 2 * unit.real();
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
    const int64_t floats = 3 * plan->scratch + 3 * unit.real() + PIECE + 2 * MOST_TAPS +
                           (once ? 0 : 2 * unit.spectrum());
    return run(
        HYENA_CHOOSE(backward_work, conv->dtype, conv->short_taps), &call, unit.count(), floats,
        grain_of(plan->n * unit.width * conv->rows));
}

struct ShortCall {
    const hyena_short *conv;
    const hyena_gradient *gradient;
};

template <class T, int J>
void short_forward_work(const void *call, int64_t d, float *) {
    const hyena_short &conv = *static_cast<const ShortCall *>(call)->conv;
    for (int64_t r = 0; r < conv.rows; ++r) {
        const hyena_row &row = conv.row[r];
        T *y = static_cast<T *>(conv.y) + row.batch * conv.y_batch_stride +
               d * conv.y_channel_stride + row.start;
        const auto x = source_of<T, J>(conv.x, row, d, conv.short_taps, conv.short_lead);
        product(y, x, Nothing{}, 0, row.length);
    }
}
template <class T, int J>
void short_backward_work(const void *call, int64_t d, float *memory) {
    const hyena_short &conv = *static_cast<const ShortCall *>(call)->conv;
    const hyena_gradient &to = *static_cast<const ShortCall *>(call)->gradient;
    TapSums sums{};
    for (int64_t r = 0; r < conv.rows; ++r) {
        const hyena_row &row = conv.row[r];
        const hyena_input dy{
                conv.y, conv.y_batch_stride, conv.y_channel_stride, nullptr, nullptr, nullptr};
        T *dz = static_cast<T *>(to.data);
        if (dz) dz += row.batch * to.batch_stride + d * to.channel_stride + row.start;
        source_gradient(
            dz, source_of<T, J>(conv.x, row, d, conv.short_taps, conv.short_lead),
            source_of<T, 0>(dy, row, d, 0, 0), Nothing{}, to.taps || to.bias ? &sums : nullptr,
            memory);
    }
    write_sums(to, d, conv.short_taps, sums);
}

int32_t kernel_short_forward(const hyena_short *conv) {
    const ShortCall call{conv, nullptr};
    return run(
        HYENA_CHOOSE(short_forward_work, conv->dtype, conv->short_taps), &call, conv->channels, 0,
        grain_of(positions_of(conv->row, conv->rows)));
}

int32_t kernel_short_backward(const hyena_short *conv, const hyena_gradient *gradient) {
    const ShortCall call{conv, gradient};
    return run(
        HYENA_CHOOSE(short_backward_work, conv->dtype, conv->short_taps), &call, conv->channels,
        PIECE + 2 * MOST_TAPS, grain_of(positions_of(conv->row, conv->rows)));
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
