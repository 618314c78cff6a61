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

void clear(float *to, int64_t count) {
    if (count > 0) memset(to, 0, size_t(count) * sizeof(float));  // a call costs more than a short row
}

// Zeros in those rows of the last unit that have no channel.
void clear_absent(float *rows, const Unit &unit, int64_t index) {
    const int64_t present = unit.end(index) - unit.begin(index);
    clear(rows + present * unit.row, (unit.width - present) * unit.row);
}

// A unit's filters, divided by n, at the root. A tap of negative lag -m is i Z^(n-m), so a two-sided
// filter is a complex row.
void filter_down(
    const hyena_conv &conv, const Unit &unit, int64_t index, float *scratch, float *rows,
    float *lanes) {
    const int64_t n = unit.plan.n;
    const float scale = 1.0f / float(n);
    const bool two_sided = conv.lead > 0;
    for (int side = 0; side < (two_sided ? 2 : 1); ++side) {
        clear_absent(rows, unit, index);
        for (int64_t d = unit.begin(index); d < unit.end(index); ++d) {
            const float *k = conv.k + d * conv.k_stride + conv.lead;  // k[lag]
            float *row = rows + (d - unit.begin(index)) * unit.row;
            if (side == 0) {
                const int64_t most = conv.taps - conv.lead < n ? conv.taps - conv.lead : n;
                for (int64_t t = 0; t < most; ++t) row[t] = k[t] * scale;
                clear(row + most, unit.row - most);
                if (conv.skip) row[0] += conv.skip[d] * scale;
            } else {
                const int64_t most = conv.lead < n ? conv.lead : n - 1;
                clear(row, n - most);
                for (int64_t m = 1; m <= most; ++m) row[n - m] = k[-m] * scale;
                clear(row + n, unit.row - n);
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
    const hyena_conv &conv, const hyena_gradients &to, const Unit &unit, int64_t index,
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

}  // namespace
