// A unit of a thread's work, one channel or W of them side by side, and its filters' way to the root
// of the transform and back.
#pragma once
#include "hyena_kernel.h"
#include "plan.h"
#include "transform.h"

namespace {

// Up to here channels lie side by side in a vector; beyond, the scratch of W rows leaves the cache.
constexpr int64_t LONGEST_IN_LANES = 384;

// But for a row that is whole leaves, which stays in the first cache where W rows of wide vectors do
// not.
bool in_lanes(int64_t n) { return n <= LONGEST_IN_LANES && !(W > 4 && n == 256); }

int64_t size_for(int64_t length) {
    const int64_t lanes = size_at_least(length, true, W, WIDEST_RADIX);
    if (lanes == -2 || (lanes > 0 && lanes <= LONGEST_IN_LANES)) return lanes;
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
    int64_t lanes() const { return width > 1 ? real() : 0; }  // and of these rows transposed
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

template <Part PART>
void down(const float *rows, float *lanes, float *scratch, const Unit &unit) {
    if (!unit.plan.channel_lanes) return root_down<PART>(Buffer(rows), scratch, unit.plan);
    transpose_rows(rows, lanes, unit, false);
    root_down<PART>(Buffer(lanes), scratch, unit.plan);
}
template <Part PART>
void up(float *rows, float *lanes, const float *scratch, const Unit &unit) {
    if (!unit.plan.channel_lanes) return root_up<PART>(Buffer(rows), scratch, unit.plan);
    root_up<PART>(Buffer(lanes), scratch, unit.plan);
    transpose_rows(rows, lanes, unit, true);
}

// The same with `of(d)` for channel d's row, which the root pass makes or uses as it goes. Where
// lanes are channels, and for kinds of rows that are not worth the code, it goes by way of `rows`.
template <Part PART, class Of>
void down(
    const Of &of, float *rows, float *lanes, float *scratch, const Unit &unit, int64_t index) {
    if constexpr (decltype(of(0))::AT_ROOT) {
        if (!unit.plan.channel_lanes)
            return root_down<PART>(of(unit.begin(index)), scratch, unit.plan);
    }
    for (int64_t d = unit.begin(index); d < unit.end(index); ++d) {
        const auto from = of(d);
        float *row = rows + (d - unit.begin(index)) * unit.row;
        for (int64_t t = 0; t < unit.row; t += W) store(row + t, from.at(t));
    }
    down<PART>(rows, lanes, scratch, unit);
}
template <Part PART, class Of>
void up(
    const Of &of, float *rows, float *lanes, const float *scratch, const Unit &unit,
    int64_t index) {
    if constexpr (decltype(of(0))::AT_ROOT) {
        if (!unit.plan.channel_lanes)
            return root_up<PART>(of(unit.begin(index)), scratch, unit.plan);
    }
    up<PART>(rows, lanes, scratch, unit);
    for (int64_t d = unit.begin(index); d < unit.end(index); ++d) {
        const auto to = of(d);
        const float *row = rows + (d - unit.begin(index)) * unit.row;
        for (int64_t t = 0; t < unit.row; t += W) to.put(t, load(row + t));
    }
}

template <class Use>
void visit(float *const *scratch, const Unit &unit, const Use &use) {
    visit_children(scratch, unit.plan, use, 0, 0);
}

// Zeros in those rows of the last unit that have no channel.
void clear_absent(float *rows, const Unit &unit, int64_t index) {
    const int64_t absent = unit.width - (unit.end(index) - unit.begin(index));
    if (absent > 0)
        memset(rows + (unit.width - absent) * unit.row, 0, size_t(absent * unit.row) * sizeof(float));
}

alignas(64) constexpr float FIRST_LANE[W] = {1};

// A filter's taps of lags >= 0 or of lags < 0 as a row, or where their gradients go: at positions
// [begin, end). Times 1/n, since up the tree a row comes to n times itself.
template <class P>
struct Taps {
    static constexpr bool AT_ROOT = true;
    P *taps;  // the first one, position begin's
    int64_t begin, end;
    float scale;
    P *skip;  // a tap more at position 0; null: none

    HYENA_INLINE bool inside(int64_t t) const { return t >= begin && t + W <= end; }
    HYENA_INLINE bool outside(int64_t t) const { return t >= end || t + W <= begin; }
    HYENA_INLINE V at(int64_t t) const {
        V a = inside(t)    ? load(taps + (t - begin)) * broadcast(scale)
              : outside(t) ? broadcast(0)
                           : at_end(*this, t);
        if (t == 0 && skip) a = fma(load(FIRST_LANE), broadcast(*skip * scale), a);
        return a;
    }
    HYENA_INLINE void put(int64_t t, V a) const {
        a = a * broadcast(scale);
        if (inside(t))
            store(taps + (t - begin), a);
        else if (!outside(t))
            put_end(*this, t, a);
        if (t == 0 && skip) put_skip(skip, a);
    }
    static HYENA_APART V at_end(const Taps p, int64_t t) {
        float lanes[W] = {};
        for (int i = 0; i < W; ++i)
            if (t + i >= p.begin && t + i < p.end) lanes[i] = p.taps[t + i - p.begin] * p.scale;
        return load(lanes);
    }
    static HYENA_APART void put_end(const Taps p, int64_t t, V a) {
        float lanes[W];
        store(lanes, a);
        for (int i = 0; i < W; ++i)
            if (t + i >= p.begin && t + i < p.end) p.taps[t + i - p.begin] = lanes[i];
    }
    static HYENA_APART void put_skip(P *skip, V a) {
        float lanes[W];
        store(lanes, a);
        *skip = lanes[0];
    }
};

// A unit's filters, divided by n, at the root. A tap of negative lag -m is i Z^(n-m), so a two-sided
// filter is a complex row. Of `rows`, those without a channel are zeros.
void filter_down(
    const hyena_conv &conv, const Unit &unit, int64_t index, float *scratch, float *rows,
    float *lanes) {
    const int64_t n = unit.plan.n, after = conv.taps - conv.lead;
    const float scale = 1.0f / float(n);
    const auto lags = [&](int64_t d) {
        const float *k = conv.k + d * conv.k_stride + conv.lead;  // k[lag]
        const float *skip = conv.skip ? conv.skip + d : nullptr;
        return Taps<const float>{k, 0, after < n ? after : n, scale, skip};
    };
    down<REAL>(lags, rows, lanes, scratch, unit, index);
    if (conv.lead == 0) return;
    const int64_t before = conv.lead < n ? conv.lead : n - 1;
    const auto negative = [&](int64_t d) {
        const float *k = conv.k + d * conv.k_stride + conv.lead;
        return Taps<const float>{k - before, n - before, n, scale, nullptr};
    };
    down<IMAGINARY>(negative, rows, lanes, scratch, unit, index);
}

// The gradients of a unit's filters from the root; taps that reach past the longest row have none.
void filter_up(
    const hyena_conv &conv, const hyena_gradients &to, const Unit &unit, int64_t index,
    const float *scratch, float *rows, float *lanes) {
    const int64_t n = unit.plan.n, after = conv.taps - conv.lead;
    const float scale = 1.0f / float(n);
    int64_t longest = 0;
    for (int64_t r = 0; r < conv.rows; ++r)
        if (conv.row[r].length > longest) longest = conv.row[r].length;
    const int64_t ahead = longest > 0 ? longest - 1 : 0;
    const int64_t reach = after < longest ? after : longest;
    const int64_t before = conv.lead < ahead ? conv.lead : ahead;
    const auto zeros = [](float *k, int64_t begin, int64_t end) {
        for (int64_t t = begin; t < end; ++t) k[t] = 0;
    };
    const auto lags = [&](int64_t d) {
        float *k = to.k ? to.k + d * conv.taps + conv.lead : nullptr;
        if (k) zeros(k, reach, after);
        return Taps<float>{k, 0, k ? reach : 0, scale, to.skip ? to.skip + d : nullptr};
    };
    up<REAL>(lags, rows, lanes, scratch, unit, index);
    for (int64_t d = unit.begin(index); to.skip && longest == 0 && d < unit.end(index); ++d)
        to.skip[d] = 0;
    if (conv.lead == 0 || !to.k) return;
    const auto negative = [&](int64_t d) {
        float *k = to.k + d * conv.taps + conv.lead;
        zeros(k, -conv.lead, -before);
        return Taps<float>{k - before, n - before, n, scale, nullptr};
    };
    up<IMAGINARY>(negative, rows, lanes, scratch, unit, index);
}

}  // namespace
