// The kernel of one build: forward and backward passes over channels and rows, in threads.
//
// Compiled once for each instruction set, with HYENA_ISA_AVX512, HYENA_ISA_AVX2 or
// HYENA_ISA_PORTABLE defined. The definition of what it computes is hyena.ops.naive; the fallback
// without it is hyena.ops.fft.
#include "block.h"
#include "direct.h"
#include "linear.h"
#include "modal.h"
#include "rows.h"
#include "short_conv.h"
#include "step.h"
#include "threads.h"
#include "unit.h"

#include <algorithm>

namespace {

// Of parts of fewer bytes a call touches some nine, which lie in a core's own cache.
constexpr int64_t LARGEST_NEAR = 128 << 10;

// Of longer rows the next one would push the present one out of the caches, or where it is written.
constexpr int64_t LONGEST_FETCHED = 131072;
constexpr int64_t LONGEST_WRITTEN = 16384;

// Of y, or of one part of the input.
template <class T>
int64_t bytes_of(const Conv &conv) {
    return positions_of(conv.row, conv.rows) * conv.channels * int64_t(sizeof(T));
}

// What to fetch while row r of channel d is worked off, among these rows: the inputs of the next
// one, and where the present one goes. `to`: in the backward pass.
template <class T>
Ahead ahead_of(
    const Conv &conv, const Gradients *to, const Unit &unit, const Share &rows, int64_t d,
    int64_t r, bool near, bool past_caches) {
    const int64_t length = conv.row[r].length;
    Ahead ahead(length);
    if (near || unit.width > 1 || unit.plan.n > LONGEST_FETCHED) return ahead;
    if (!past_caches && unit.plan.n <= LONGEST_WRITTEN) {
        const hyena_row &row = conv.row[r];
        if (to) {
            for (const Gradient *part : {&to->post, &to->pre, &to->value})
                ahead.add(row_of<T>(*part, row, d));
        } else {
            ahead.add(row_of_y<T>(conv, row, d));
        }
        if (to && to->k && conv.lead == 0 && conv.rows == 1 && conv.taps >= length)
            ahead.add(to->k + d * conv.taps);
    }
    if (r + 1 < rows.end) {
        ++r;
    } else if (rows.count() == conv.rows && ++d < conv.channels) {
        r = 0;
        if (!conv.spectrum && conv.lead == 0 && conv.taps >= length)
            ahead.add(conv.k + d * conv.k_stride);
    } else {
        return ahead;
    }
    const hyena_row &next = conv.row[r];
    if (next.length < length) return ahead;
    for (const Input *part : {&conv.value, &conv.pre, &conv.post})
        ahead.add(row_of<T>(*part, next, d));
    if (to) ahead.add(row_of_y<T>(conv, next, d));
    return ahead;
}

// The memory of a thread for the transforms of a unit's rows.
struct Rows {
    float *scratch, *rows, *lanes;

    Rows(Room &room, const Unit &unit)
        : scratch(room.take(unit.plan.scratch)), rows(room.take(unit.real())),
          lanes(room.take(unit.lanes())) {}
};

// The filter's spectrum is given, is computed now for all rows, or, if there is only one, is
// computed and used leaf by leaf.
bool leaf_by_leaf(const Conv &conv, int64_t rows) { return !conv.spectrum && rows == 1; }

struct ForwardRoom : Rows {
    float *own;  // spectrum, or scratch of the filter

    ForwardRoom(Room &room, const Unit &unit, const Conv &conv)
        : Rows(room, unit),
          own(room.take(conv.spectrum ? 0 : std::max(unit.plan.scratch, unit.spectrum()))) {}
};

// These rows of a unit.
template <class T, int J>
void forward_unit(
    const Conv &conv, const Unit &unit, int64_t index, const Share &these, float *memory) {
    Room room{memory};
    const ForwardRoom own(room, unit, conv);
    float *scratch = own.scratch, *rows = own.rows, *lanes = own.lanes;
    float *both[2] = {scratch, own.own};
    const float *spectrum = own.own;
    const bool once = leaf_by_leaf(conv, these.count());
    clear_absent(rows, unit, index);
    if (conv.spectrum) {
        spectrum = conv.spectrum + index * unit.spectrum();
    } else if (once) {
        filter_down(conv, unit, index, both[1], rows, lanes);
    } else {
        filter_down(conv, unit, index, scratch, rows, lanes);
        visit(&scratch, unit, Keep{both[1]});
    }
    const int64_t bytes = bytes_of<T>(conv);
    const bool near = bytes < LARGEST_NEAR, past_caches = bytes > LARGEST_CACHED;
    for (int64_t r = these.begin; r < these.end; ++r) {
        const hyena_row &row = conv.row[r];
        const auto source = [&](const Input &input, int64_t d) {
            return source_of<T, J>(input, row, d, conv.short_taps, conv.short_lead);
        };
        const auto value = [&](int64_t d) {
            return Product(source(conv.value, d), Nothing{}, row.length);
        };
        const auto gated = [&](int64_t d) {
            return Product(source(conv.value, d), source(conv.pre, d), row.length);
        };
        if (conv.pre.data)
            down<REAL>(gated, rows, lanes, scratch, unit, index);
        else
            down<REAL>(value, rows, lanes, scratch, unit, index);
        const Ahead ahead =
            ahead_of<T>(conv, nullptr, unit, these, unit.begin(index), r, near, past_caches);
        if (once)
            visit(both, unit, FilterOnce{ahead});
        else
            visit(&scratch, unit, Filter{spectrum, ahead});
        const auto plainly = [&](int64_t d) {
            return Times(row_of_y<T>(conv, row, d), Nothing{}, row.length, false);
        };
        const auto gated_again = [&](int64_t d) {
            T *y = row_of_y<T>(conv, row, d);
            return Times(y, source(conv.post, d), row.length, past_caches);
        };
        if (conv.post.data)
            up<REAL>(gated_again, rows, lanes, scratch, unit, index);
        else
            up<REAL>(plainly, rows, lanes, scratch, unit, index);
    }
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
    const Conv &conv, const Gradients &to, const Unit &unit, int64_t index,
    const TapSums *taps) {
    for (int64_t d = unit.begin(index); d < unit.end(index); ++d) {
        const TapSums *of = taps + (d - unit.begin(index));
        write_sums(to.post, d, conv.short_taps, of[0]);
        write_sums(to.pre, d, conv.short_taps, of[unit.width]);
        write_sums(to.value, d, conv.short_taps, of[2 * unit.width]);
    }
}

struct BackwardRoom {
    float *scratch[3];
    float *u, *g;  // later the output, and du
    float *lanes, *piece;
    float *spectrum, *sums;  // of all rows; none of one row, which is worked off leaf by leaf

    BackwardRoom(Room &room, const Unit &unit, const Conv &conv) {
        for (float *&one : scratch) one = room.take(unit.plan.scratch);
        u = room.take(unit.real()), g = room.take(unit.real());
        lanes = room.take(unit.lanes()), piece = room.take(LONGEST_PIECE);
        const int64_t kept = leaf_by_leaf(conv, conv.rows) ? 0 : unit.spectrum();
        spectrum = room.take(kept), sums = room.take(kept);
    }
};

// From the leaves of u and g to the gradients of a row's inputs.
template <class T, int J>
void gradients_up(
    const Conv &conv, const Gradients &to, const Unit &unit, int64_t index,
    const hyena_row &row, const BackwardRoom &own, bool want_post, TapSums *taps,
    bool past_caches) {
    float *u = own.u, *g = own.g, *lanes = own.lanes;
    const auto source = [&](const Input &input, int64_t d) {
        return source_of<T, J>(input, row, d, conv.short_taps, conv.short_lead);
    };
    if constexpr (J == 0) {
        if (!to.z) return;
        const auto times = [&](const Gradient &part, int64_t d, const auto &factor) {
            return Times(row_of<T>(part, row, d), factor, row.length, past_caches);
        };
        const auto to_post = [&](int64_t d) {
            return times(to.post, d, output_gradient<T>(conv, row, d));
        };
        const auto to_pre_and_value = [&](int64_t d) {
            return Both{
                times(to.pre, d, source(conv.value, d)), times(to.value, d, source(conv.pre, d))};
        };
        const auto to_value = [&](int64_t d) { return times(to.value, d, Nothing{}); };
        if (want_post) up<REAL>(to_post, u, lanes, own.scratch[0], unit, index);
        if (conv.pre.data)
            up<REAL>(to_pre_and_value, g, lanes, own.scratch[1], unit, index);
        else
            up<REAL>(to_value, g, lanes, own.scratch[1], unit, index);
    } else {
        // The gradient of a short convolution takes neighbours, of rows that are whole by then.
        if (want_post) up<REAL>(u, lanes, own.scratch[0], unit);
        up<REAL>(g, lanes, own.scratch[1], unit);
        for (int64_t d = unit.begin(index); d < unit.end(index); ++d) {
            const int64_t c = d - unit.begin(index);
            const Plain y = plain(u + c * unit.row, row.length);
            const Plain du = plain(g + c * unit.row, row.length);
            const auto write = [&](const Gradient &part, const Input &input, const auto &a,
                                   const auto &b, TapSums &sums) {
                input_gradient<T, J>(part, input, row, d, conv, a, b, sums, own.piece, past_caches);
            };
            TapSums *of = taps + c;
            if (want_post)
                write(to.post, conv.post, output_gradient<T>(conv, row, d), y, of[0]);
            if (conv.pre.data) {
                write(to.pre, conv.pre, source(conv.value, d), du, of[unit.width]);
                write(to.value, conv.value, source(conv.pre, d), du, of[2 * unit.width]);
            } else {
                write(to.value, conv.value, du, Nothing{}, of[2 * unit.width]);
            }
        }
    }
}

// Rows of a unit, whole groups of them. The sums over rows go to `sums`, the unit's, if there are
// several groups.
template <class T, int J>
void backward_unit(
    const Conv &conv, const Gradients &to, const Unit &unit, int64_t index,
    int64_t groups, const Share &these, const Sums *sums, float *memory) {
    Room room{memory};
    const BackwardRoom own(room, unit, conv);
    float *const *scratch = own.scratch;
    float *u = own.u, *g = own.g, *lanes = own.lanes;
    const bool want_k = to.k || to.skip;
    const bool want_post = conv.post.data && to.post.wanted();
    const float *spectrum = own.spectrum;
    const bool once = leaf_by_leaf(conv, conv.rows);
    clear_absent(u, unit, index), clear_absent(g, unit, index);
    if (conv.spectrum) {
        spectrum = conv.spectrum + index * unit.spectrum();
    } else {
        filter_down(conv, unit, index, scratch[2], u, lanes);
        if (!once) visit(&scratch[2], unit, Keep{own.spectrum});
    }
    const int64_t bytes = bytes_of<T>(conv), written = conv.pre.data ? 3 * bytes : bytes;
    const bool near = bytes < LARGEST_NEAR, past_caches = written > LARGEST_CACHED;
    TapSums taps[3 * W];
    if (to.short_k || to.short_bias)  // else nobody reads them, and they are larger than a short row
        std::fill(taps, taps + 3 * unit.width, TapSums{});
    const Sums all{own.sums, taps};
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
        const auto source = [&](const Input &input, int64_t d) {
            return source_of<T, J>(input, row, d, conv.short_taps, conv.short_lead);
        };
        const auto dy = [&](int64_t d) { return output_gradient<T>(conv, row, d); };
        const auto value = [&](int64_t d) {
            return Product(source(conv.value, d), Nothing{}, row.length);
        };
        const auto gated = [&](int64_t d) {
            return Product(source(conv.value, d), source(conv.pre, d), row.length);
        };
        const auto gradient = [&](int64_t d) { return Product(dy(d), Nothing{}, row.length); };
        const auto gated_gradient = [&](int64_t d) {
            return Product(source(conv.post, d), dy(d), row.length);
        };
        if (conv.pre.data)
            down<REAL>(gated, u, lanes, scratch[0], unit, index);
        else
            down<REAL>(value, u, lanes, scratch[0], unit, index);
        if (conv.post.data)
            down<REAL>(gated_gradient, g, lanes, scratch[1], unit, index);
        else
            down<REAL>(gradient, g, lanes, scratch[1], unit, index);
        const Ahead ahead =
            ahead_of<T>(conv, &to, unit, rows, unit.begin(index), r, near, past_caches);
        if (once)
            visit(scratch, unit, DifferentiateOnce{ahead});
        else if (!want_k)
            visit(scratch, unit, Differentiate<false, false>{spectrum, nullptr, ahead});
        else if (first)
            visit(scratch, unit, Differentiate<true, false>{spectrum, to_sums.spectra, ahead});
        else
            visit(scratch, unit, Differentiate<true, true>{spectrum, to_sums.spectra, ahead});
        gradients_up<T, J>(
            conv, to, unit, index, row, own, want_post, to_sums.taps, past_caches);
    }
    if (sums) return;
    write_taps(conv, to, unit, index, taps);
    if (!want_k) return;
    if (!once) visit(&scratch[2], unit, Recall{all.spectra});
    filter_up(conv, to, unit, index, scratch[2], u, lanes);
}

struct Call {
    const Conv *conv;
    const Gradients *gradients;
    const Unit *unit;
    int64_t groups, parts;      // of the rows
    Sums sums{};                // of all units' groups, if there are several
    float *spectrum = nullptr;  // where to write it

    Call(const Conv *c, const Gradients *to, const Unit &u)
        : conv(c), gradients(to), unit(&u), groups(groups_of(u.count(), c->rows, positions())),
          parts(parts_of(u.count(), c->rows, groups)) {}
    int64_t positions() const { return unit->plan.n * unit->width; }
    int64_t grain() const { return grain_of(positions() * (conv->rows / parts)); }
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
    Room room{memory};
    Rows own(room, unit);
    visit(&own.scratch, unit, Recall{total.spectra});
    filter_up(*c.conv, *c.gradients, unit, index, own.scratch, own.rows, own.lanes);
}
void spectrum_work(const void *call, int64_t index, float *memory) {
    const Call &c = *static_cast<const Call *>(call);
    Room room{memory};
    Rows own(room, *c.unit);
    clear_absent(own.rows, *c.unit, index);
    filter_down(*c.conv, *c.unit, index, own.scratch, own.rows, own.lanes);
    visit(&own.scratch, *c.unit, Keep{c.spectrum + index * c.unit->spectrum()});
}

int64_t kernel_size(int64_t length) { return size_for(length < 1 ? 1 : length); }

int64_t kernel_spectrum_floats(int64_t channels, int64_t n) {
    const int64_t width = in_lanes(n) ? W : 1;
    return (channels + width - 1) / width * width * 2 * n;
}

int32_t kernel_spectrum(const hyena_conv *given, float *spectrum) {
    const Conv conv(*given);
    const Plan *plan = plan_of(conv.n, in_lanes(conv.n), W, WIDEST_RADIX);
    if (!plan) return 1;
    const Unit unit(*plan, conv.channels);
    Call call(&conv, nullptr, unit);
    call.spectrum = spectrum;
    return run(
        spectrum_work, &call, unit.count(), floats_of<Rows>(unit), grain_of(call.positions()));
}

int32_t kernel_forward(const hyena_conv *given) {
    const Conv conv(*given);
    if (few_taps(conv)) return direct_forward(conv);
    if (!conv.spectrum && !conv.k) return short_forward(conv);
    const Plan *plan = plan_of(conv.n, in_lanes(conv.n), W, WIDEST_RADIX);
    if (!plan) return 1;
    const Unit unit(*plan, conv.channels);
    const Call call(&conv, nullptr, unit);
    return run(
        HYENA_CHOOSE(forward_work, conv.dtype, conv.short_taps), &call, unit.count() * call.parts,
        floats_of<ForwardRoom>(unit, conv), call.grain());
}

int32_t kernel_backward(const hyena_conv *given, const hyena_gradients *gradients) {
    const Conv conv(*given);
    const Gradients to(*gradients, conv);
    if (few_taps(conv)) return direct_backward(conv, to);
    if (!conv.spectrum && !conv.k) return short_backward(conv, to.value);
    const Plan *plan = plan_of(conv.n, in_lanes(conv.n), W, WIDEST_RADIX);
    if (!plan) return 1;
    const Unit unit(*plan, conv.channels);
    Call call(&conv, &to, unit);
    const int64_t sums = call.groups > 1 ? unit.count() * call.groups : 0;
    const Shared<float> spectra(to.k || to.skip ? sums * unit.spectrum() : 0);
    const Shared<TapSums> taps(sums * 3 * unit.width);
    if (spectra.failed || taps.failed) return 1;
    call.sums = {spectra.data, taps.data};
    const int32_t failed =
        run(HYENA_CHOOSE(backward_work, conv.dtype, conv.short_taps), &call,
            unit.count() * call.parts, floats_of<BackwardRoom>(unit, conv), call.grain());
    if (failed || call.groups == 1) return failed;
    return run(
        gather_work, &call, unit.count(), floats_of<Rows>(unit), grain_of(call.positions()));
}

constexpr int CHAINS = WIDEST_RADIX == 8 ? 6 : 3;  // as many as the registers hold

// As many butterflies up as down, as a transform and its inverse have. The numbers overflow, which
// takes no longer.
void butterflies_work(const void *call, int64_t, float *memory) {
    const C w = {broadcast(0.6f), broadcast(0.8f)};
    C x[CHAINS], y[CHAINS];
    for (int i = 0; i < CHAINS; ++i) x[i] = y[i] = {broadcast(1.0f), broadcast(float(i))};
    for (int64_t round = *static_cast<const int64_t *>(call); round > 0; --round)
        for (int i = 0; i < CHAINS; ++i) split(x[i], y[i], w), join(x[i], y[i], w);
    for (int i = 0; i < CHAINS; ++i) store_complex(memory + i * 2 * W, x[i] + y[i]);
}

int64_t kernel_butterflies(int64_t tasks, int64_t rounds) {
    run(butterflies_work, &rounds, tasks, CHAINS * 2 * W, 1);
    return tasks * rounds * CHAINS * W * 20;
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
        HYENA_THIS_NAME, kernel_size,    kernel_spectrum_floats,
        kernel_spectrum, kernel_forward, kernel_backward,
        kernel_modal,    kernel_modal_backward,
        kernel_step,     kernel_linear,  kernel_blocks,
        kernel_butterflies,
    };
    return &kernel;
}
