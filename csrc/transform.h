// The right-angle transform of one row (or of W channels): down the tree, what is done with the
// spectrum leaf by leaf, and up again. docs/kernel.md derives it; plan.h has the constants.
//
// A complex vector is W real parts followed by W imaginary parts. The order of the spectrum is the
// tree's and never undone: what multiplies it has the same order.
#pragma once
#include "plan.h"
#include "vector.h"

namespace {

struct C {
    V re, im;
};

HYENA_INLINE C load_complex(const float *p) { return {load(p), load(p + W)}; }
HYENA_INLINE void store_complex(float *p, C a) { store(p, a.re), store(p + W, a.im); }
HYENA_INLINE C broadcast_complex(const float *p) { return {broadcast(p[0]), broadcast(p[1])}; }
HYENA_INLINE C operator+(C a, C b) { return {a.re + b.re, a.im + b.im}; }
HYENA_INLINE C operator-(C a, C b) { return {a.re - b.re, a.im - b.im}; }
HYENA_INLINE C operator*(C a, C b) {
    return {fnma(a.im, b.im, a.re * b.re), fma(a.re, b.im, a.im * b.re)};
}
HYENA_INLINE C conjugate_times(C a, C b) {  // conj(a) b
    return {fma(a.im, b.im, a.re * b.re), fnma(a.im, b.re, a.re * b.im)};
}

// (x, y) <- (x + wy, x - wy), and the same with iw for w.
HYENA_INLINE void split(C &x, C &y, C w) {
    C t = w * y;
    y = x - t, x = x + t;
}
HYENA_INLINE void split_i(C &x, C &y, C w) {
    C t = w * y;
    y = {x.re + t.im, x.im - t.re};
    x = {x.re - t.im, x.im + t.re};
}
// Their inverses, times two.
HYENA_INLINE void join(C &x, C &y, C w) {
    C d = x - y;
    x = x + y, y = conjugate_times(w, d);
}
HYENA_INLINE void join_i(C &x, C &y, C w) {
    C d = x - y;
    x = x + y, d = conjugate_times(w, d);
    y.re = d.im, y.im = V{} - d.re;
}
// join where only the real parts are wanted.
HYENA_INLINE void join_real(const C &x, const C &y, C w, V &a, V &b) {
    C d = x - y;
    a = x.re + y.re;
    b = fma(w.im, d.im, w.re * d.re);
}

// The factors of a node: powers 1/2, 1/4 and 1/8 of its constant, the last also an eighth turned.
struct Factors {
    C half, quarter, eighth, eighth_turned;
};
template <int R>
HYENA_INLINE Factors factors_of(const float *p) {
    Factors f{};
    f.half = broadcast_complex(p);
    if (R >= 4) f.quarter = broadcast_complex(p + 2);
    if (R == 8) f.eighth = broadcast_complex(p + 4), f.eighth_turned = broadcast_complex(p + 6);
    return f;
}

template <int R>
HYENA_INLINE void split_node(C *x, const Factors &f) {
    for (int i = 0; i < R / 2; ++i) split(x[i], x[i + R / 2], f.half);
    if constexpr (R >= 4) {
        for (int i = 0; i < R / 4; ++i) split(x[i], x[i + R / 4], f.quarter);
        for (int i = R / 2; i < 3 * R / 4; ++i) split_i(x[i], x[i + R / 4], f.quarter);
    }
    if constexpr (R == 8) {
        split(x[0], x[1], f.eighth), split_i(x[2], x[3], f.eighth);
        split(x[4], x[5], f.eighth_turned), split_i(x[6], x[7], f.eighth_turned);
    }
}
// All levels but the one next to the node.
template <int R>
HYENA_INLINE void join_lower(C *x, const Factors &f) {
    if constexpr (R == 8) {
        join(x[0], x[1], f.eighth), join_i(x[2], x[3], f.eighth);
        join(x[4], x[5], f.eighth_turned), join_i(x[6], x[7], f.eighth_turned);
    }
    if constexpr (R >= 4) {
        for (int i = 0; i < R / 4; ++i) join(x[i], x[i + R / 4], f.quarter);
        for (int i = R / 2; i < 3 * R / 4; ++i) join_i(x[i], x[i + R / 4], f.quarter);
    }
}
template <int R>
HYENA_INLINE void join_node(C *x, const Factors &f) {
    join_lower<R>(x, f);
    for (int i = 0; i < R / 2; ++i) join(x[i], x[i + R / 2], f.half);
}

// The passes below the root.

template <int R, bool UP>
HYENA_INLINE void pass_radix(
    float *__restrict node, const Pass &pass, const int64_t *run_offset, const float *factors) {
    const Factors f = factors_of<R>(factors);
    const int64_t stride = pass.stride;
    for (int64_t run = 0; run < pass.runs; ++run) {
        float *p = node + run_offset[run];
        for (int64_t j = 0; j < pass.run; ++j, p += 2 * W) {
            C x[R];
            for (int r = 0; r < R; ++r) x[r] = load_complex(p + r * stride);
            if (UP)
                join_node<R>(x, f);
            else
                split_node<R>(x, f);
            for (int r = 0; r < R; ++r) store_complex(p + r * stride, x[r]);
        }
    }
}

template <bool UP>
HYENA_INLINE void run_pass(float *node, const Plan &plan, int p, int64_t index) {
    const Pass &pass = plan.pass[p];
    const float *factors = pass.factors + index * pass.factors_per_node;
    if (WIDEST_RADIX == 8 && pass.radix == 8)
        pass_radix<WIDEST_RADIX == 8 ? 8 : 4, UP>(node, pass, plan.run_offset, factors);
    else if (pass.radix == 2)
        pass_radix<2, UP>(node, pass, plan.run_offset, factors);
    else
        pass_radix<4, UP>(node, pass, plan.run_offset, factors);
}

// The root: from real rows to complex children, and back to the real part.

// How the children of an odd root add up: child r is the sum of root_r^q times part q.
template <int R>
HYENA_INLINE void split_odd(const V *part, C *x, const float *factors) {
    for (int r = 0; r < R; ++r) {
        x[r] = {part[0], V{}};
        for (int q = 1; q < R; ++q) {
            const float *w = factors + 2 * (r * (R - 1) + q - 1);
            x[r].re = fma(broadcast(w[0]), part[q], x[r].re);
            x[r].im = fma(broadcast(w[1]), part[q], x[r].im);
        }
    }
}
template <int R>
HYENA_INLINE void join_odd(const C *x, V *part, const float *factors) {
    for (int q = 0; q < R; ++q) {
        part[q] = q == 0 ? x[0].re : V{};
        for (int r = q == 0; r < R; ++r) {
            if (q == 0) {
                part[0] = part[0] + x[r].re;
                continue;
            }
            const float *w = factors + 2 * (r * (R - 1) + q - 1);
            part[q] = fma(broadcast(w[0]), x[r].re, part[q]);
            part[q] = fma(broadcast(w[1]), x[r].im, part[q]);
        }
    }
}

template <int R>
HYENA_INLINE void split_root(const V *part, C *x, const Factors &f, const float *factors) {
    if constexpr (R % 2 != 0) {
        split_odd<R>(part, x, factors);
    } else {
        for (int i = 0; i < R / 2; ++i) {
            V re = f.half.re * part[i + R / 2], im = f.half.im * part[i + R / 2];
            x[i] = {part[i] + re, im};
            x[i + R / 2] = {part[i] - re, V{} - im};
        }
        if constexpr (R >= 4) {
            for (int i = 0; i < R / 4; ++i) split(x[i], x[i + R / 4], f.quarter);
            for (int i = R / 2; i < 3 * R / 4; ++i) split_i(x[i], x[i + R / 4], f.quarter);
        }
        if constexpr (R == 8) {
            split(x[0], x[1], f.eighth), split_i(x[2], x[3], f.eighth);
            split(x[4], x[5], f.eighth_turned), split_i(x[6], x[7], f.eighth_turned);
        }
    }
}

// Which part of a complex row a root pass moves: all rows but those of two-sided filters are real.
enum Part { REAL, IMAGINARY };

// scratch <- root split of row (n vectors of W positions, or one vector a position); with
// IMAGINARY, scratch += i times that.
template <int R, Part PART>
void root_down_radix(const float *row, float *scratch, const Plan &plan) {
    const Pass &pass = plan.pass[0];
    Factors f{};
    if constexpr (R % 2 == 0) f = factors_of<R>(pass.factors);
    const int64_t part_floats = pass.child * W;
    for (int64_t run = 0; run < pass.runs; ++run) {
        float *p = scratch + plan.run_offset[run];
        for (int64_t j = 0; j < pass.run; ++j, p += 2 * W, row += W) {
            V part[R];
            C x[R];
            for (int q = 0; q < R; ++q) part[q] = load(row + q * part_floats);
            split_root<R>(part, x, f, pass.factors);
            for (int r = 0; r < R; ++r) {
                float *child = p + r * pass.stride;
                if constexpr (PART == IMAGINARY) {
                    C old = load_complex(child);
                    x[r] = {old.re - x[r].im, old.im + x[r].re};
                }
                store_complex(child, x[r]);
            }
        }
    }
}

// row <- real (or imaginary) part of the joined root, times n.
template <int R, Part PART>
void root_up_radix(float *row, const float *scratch, const Plan &plan) {
    const Pass &pass = plan.pass[0];
    Factors f{};
    if constexpr (R % 2 == 0) f = factors_of<R>(pass.factors);
    const int64_t part_floats = pass.child * W;
    for (int64_t run = 0; run < pass.runs; ++run) {
        const float *p = scratch + plan.run_offset[run];
        for (int64_t j = 0; j < pass.run; ++j, p += 2 * W, row += W) {
            V part[R];
            C x[R];
            for (int r = 0; r < R; ++r) {
                x[r] = load_complex(p + r * pass.stride);
                if constexpr (PART == IMAGINARY) x[r] = {x[r].im, V{} - x[r].re};
            }
            if constexpr (R % 2 != 0) {
                join_odd<R>(x, part, pass.factors);
            } else {
                join_lower<R>(x, f);
                for (int i = 0; i < R / 2; ++i)
                    join_real(x[i], x[i + R / 2], f.half, part[i], part[i + R / 2]);
            }
            for (int q = 0; q < R; ++q) store(row + q * part_floats, part[q]);
        }
    }
}

template <Part PART>
void root_down(const float *row, float *scratch, const Plan &plan) {
    switch (plan.pass[0].radix) {
        case 2: return root_down_radix<2, PART>(row, scratch, plan);
        case 3: return root_down_radix<3, PART>(row, scratch, plan);
        case 4: return root_down_radix<4, PART>(row, scratch, plan);
        case 5: return root_down_radix<5, PART>(row, scratch, plan);
        default: return root_down_radix<8, PART>(row, scratch, plan);
    }
}
template <Part PART>
void root_up(float *row, const float *scratch, const Plan &plan) {
    switch (plan.pass[0].radix) {
        case 2: return root_up_radix<2, PART>(row, scratch, plan);
        case 3: return root_up_radix<3, PART>(row, scratch, plan);
        case 4: return root_up_radix<4, PART>(row, scratch, plan);
        case 5: return root_up_radix<5, PART>(row, scratch, plan);
        default: return root_up_radix<8, PART>(row, scratch, plan);
    }
}

// Leaves of rows: `GROUPS` last children of four vectors. Each is split once more by four; then a
// vector is a node of W positions, and transposing W of them makes each lane a node.

// Factors within lanes, in the order of plan.leaf_factors.
struct LaneFactors {
    const float *p;
    HYENA_INLINE C at(int i) const { return load_complex(p + i * 2 * W); }
    HYENA_INLINE C first(int level) const { return at(level); }
    HYENA_INLINE C half(int i) const { return at((GROUPS == 4 ? 2 : GROUPS - 1) + i / 2); }
    HYENA_INLINE C quarter(int i) const {
        return at((GROUPS == 4 ? 4 : GROUPS == 2 ? 2 : 1) + i);
    }
};

// Down to where four vectors i, i + 1, i + 2, i + 3 (i a multiple of four) are to be split by
// `split_lanes`.
HYENA_INLINE void leaf_down(float *leaf, const float *node_factors, const LaneFactors &lanes) {
    for (int g = 0; g < GROUPS; ++g) {
        float *p = leaf + g * 8 * W;
        C x[4];
        for (int a = 0; a < 4; ++a) x[a] = load_complex(p + a * 2 * W);
        split_node<4>(x, factors_of<4>(node_factors + 4 * g));
        transpose4(x[0].re, x[1].re, x[2].re, x[3].re);
        transpose4(x[0].im, x[1].im, x[2].im, x[3].im);
        for (int a = 0; a < 4; ++a) store_complex(p + a * 2 * W, x[a]);
    }
    if constexpr (GROUPS > 1) {
        for (int a = 0; a < 4; ++a) {
            float *p = leaf + a * 2 * W;
            V re[GROUPS], im[GROUPS];
            for (int g = 0; g < GROUPS; ++g) re[g] = load(p + g * 8 * W);
            for (int g = 0; g < GROUPS; ++g) im[g] = load(p + g * 8 * W + W);
            exchange_groups(re), exchange_groups(im);
            C x[GROUPS];
            for (int g = 0; g < GROUPS; ++g) x[g] = {re[g], im[g]};
            Factors f{};
            f.half = lanes.first(0);
            if constexpr (GROUPS == 4) f.quarter = lanes.first(1);
            split_node<GROUPS>(x, f);
            for (int g = 0; g < GROUPS; ++g) store_complex(p + g * 8 * W, x[g]);
        }
    }
}

HYENA_INLINE void leaf_up(float *leaf, const float *node_factors, const LaneFactors &lanes) {
    if constexpr (GROUPS > 1) {
        for (int a = 0; a < 4; ++a) {
            float *p = leaf + a * 2 * W;
            C x[GROUPS];
            for (int g = 0; g < GROUPS; ++g) x[g] = load_complex(p + g * 8 * W);
            Factors f{};
            f.half = lanes.first(0);
            if constexpr (GROUPS == 4) f.quarter = lanes.first(1);
            join_node<GROUPS>(x, f);
            V re[GROUPS], im[GROUPS];
            for (int g = 0; g < GROUPS; ++g) re[g] = x[g].re, im[g] = x[g].im;
            exchange_groups(re), exchange_groups(im);
            for (int g = 0; g < GROUPS; ++g) store_complex(p + g * 8 * W, {re[g], im[g]});
        }
    }
    for (int g = 0; g < GROUPS; ++g) {
        float *p = leaf + g * 8 * W;
        C x[4];
        for (int a = 0; a < 4; ++a) x[a] = load_complex(p + a * 2 * W);
        transpose4(x[0].re, x[1].re, x[2].re, x[3].re);
        transpose4(x[0].im, x[1].im, x[2].im, x[3].im);
        join_node<4>(x, factors_of<4>(node_factors + 4 * g));
        for (int a = 0; a < 4; ++a) store_complex(p + a * 2 * W, x[a]);
    }
}

template <int I>
HYENA_INLINE void split_lanes(C *x, const LaneFactors &lanes) {
    const C half = lanes.half(I), quarter = lanes.quarter(I);
    if (I % 2 == 0)
        split(x[0], x[2], half), split(x[1], x[3], half);
    else
        split_i(x[0], x[2], half), split_i(x[1], x[3], half);
    split(x[0], x[1], quarter), split_i(x[2], x[3], quarter);
}
template <int I>
HYENA_INLINE void join_lanes(C *x, const LaneFactors &lanes) {
    const C half = lanes.half(I), quarter = lanes.quarter(I);
    join(x[0], x[1], quarter), join_i(x[2], x[3], quarter);
    if (I % 2 == 0)
        join(x[0], x[2], half), join(x[1], x[3], half);
    else
        join_i(x[0], x[2], half), join_i(x[1], x[3], half);
}

// What memory the next row will need. The leaves compute for long and load little, so that is where
// it is fetched, a piece at each.
HYENA_INLINE void prefetch_bytes(const void *from, int64_t bytes) {
    const char *p = static_cast<const char *>(from);
    for (int64_t i = 0; i < bytes; i += 64) HYENA_PREFETCH(p + i);
}
struct Ahead {
    const char *stream[4];
    int64_t bytes;  // of each position
    int64_t positions;
    HYENA_INLINE void prefetch(int64_t position, int64_t count) const {
        if (position + count > positions) return;
        for (const char *s : stream)
            if (s) prefetch_bytes(s + position * bytes, count * bytes);
    }
};

// What is done with the spectrum of a leaf, four complex vectors at a time. `at` is their place in
// a spectrum, in floats.

struct Keep {  // the transform itself
    static constexpr int DOWN = 1, UP = 0;
    float *spectrum;
    HYENA_INLINE void prefetch(int64_t, int64_t) const {}
    HYENA_INLINE void apply(C (*x)[4], int64_t at, int count) const {
        for (int a = 0; a < count; ++a) store_complex(spectrum + at + a * 2 * W, x[0][a]);
    }
};
struct Recall {  // the inverse transform of a spectrum
    static constexpr int DOWN = 0, UP = 1;
    const float *spectrum;
    HYENA_INLINE void prefetch(int64_t, int64_t) const {}
    HYENA_INLINE void apply(C (*x)[4], int64_t at, int count) const {
        for (int a = 0; a < count; ++a) x[0][a] = load_complex(spectrum + at + a * 2 * W);
    }
};
struct Filter {  // the convolution with a filter of this spectrum
    static constexpr int DOWN = 1, UP = 1;
    const float *filter;
    const Ahead &ahead;
    HYENA_INLINE void prefetch(int64_t position, int64_t count) const {
        prefetch_bytes(filter + 2 * (position + count), count * 2 * int64_t(sizeof(float)));
        ahead.prefetch(position, count);
    }
    HYENA_INLINE void apply(C (*x)[4], int64_t at, int count) const {
        for (int a = 0; a < count; ++a)
            x[0][a] = x[0][a] * load_complex(filter + at + a * 2 * W);
    }
};
struct FilterOnce {  // the convolution with a filter that is transformed beside it
    static constexpr int DOWN = 2, UP = 1;
    const Ahead &ahead;
    HYENA_INLINE void prefetch(int64_t position, int64_t count) const {
        ahead.prefetch(position, count);
    }
    HYENA_INLINE void apply(C (*x)[4], int64_t, int count) const {
        for (int a = 0; a < count; ++a) x[0][a] = x[0][a] * x[1][a];
    }
};
// From the input u and the output's gradient g: the output again in place of u, the input's gradient
// in place of g, and, if wanted, the filter's gradient, written or added to.
template <bool FILTER, bool ADD>
struct Differentiate {
    static constexpr int DOWN = 2, UP = 2;
    const float *filter;
    float *filter_gradient;
    const Ahead &ahead;
    HYENA_INLINE void prefetch(int64_t position, int64_t count) const {
        ahead.prefetch(position, count);
    }
    HYENA_INLINE void apply(C (*x)[4], int64_t at, int count) const {
        for (int a = 0; a < count; ++a) {
            const C u = x[0][a], g = x[1][a];
            const C k = load_complex(filter + at + a * 2 * W);
            x[0][a] = u * k;
            x[1][a] = conjugate_times(k, g);
            if constexpr (FILTER) {
                float *to = filter_gradient + at + a * 2 * W;
                C sum = conjugate_times(u, g);
                if constexpr (ADD) sum = sum + load_complex(to);
                store_complex(to, sum);
            }
        }
    }
};
struct DifferentiateOnce {  // the same of one row, with the filter and its gradient beside it
    static constexpr int DOWN = 3, UP = 3;
    const Ahead &ahead;
    HYENA_INLINE void prefetch(int64_t position, int64_t count) const {
        ahead.prefetch(position, count);
    }
    HYENA_INLINE void apply(C (*x)[4], int64_t, int count) const {
        for (int a = 0; a < count; ++a) {
            const C u = x[0][a], g = x[1][a], k = x[2][a];
            x[0][a] = u * k;
            x[1][a] = conjugate_times(k, g);
            x[2][a] = conjugate_times(u, g);
        }
    }
};

template <class Use>
constexpr int ARRAYS = Use::DOWN > Use::UP ? Use::DOWN : Use::UP;

template <int I, class Use>
HYENA_INLINE void use_lanes(
    float *const *leaf, const LaneFactors &lanes, const Use &use, int64_t at) {
    C x[ARRAYS<Use>][4];
    for (int s = 0; s < Use::DOWN; ++s) {
        for (int a = 0; a < 4; ++a) x[s][a] = load_complex(leaf[s] + (4 * I + a) * 2 * W);
        split_lanes<I>(x[s], lanes);
    }
    use.apply(x, at + I * 8 * W, 4);
    for (int s = 0; s < Use::UP; ++s) {
        join_lanes<I>(x[s], lanes);
        for (int a = 0; a < 4; ++a) store_complex(leaf[s] + (4 * I + a) * 2 * W, x[s][a]);
    }
}

// The leaf that begins with last child `first`.
template <class Use>
HYENA_INLINE void use_leaf(float *const *leaf, const Plan &plan, const Use &use, int64_t first) {
    if (plan.channel_lanes) {  // a last child is one vector
        for (int64_t i = 0; i < plan.leaf_nodes; ++i) {
            C x[ARRAYS<Use>][4];
            for (int s = 0; s < Use::DOWN; ++s) x[s][0] = load_complex(leaf[s] + i * 2 * W);
            use.apply(x, (first + i) * 2 * W, 1);
            for (int s = 0; s < Use::UP; ++s) store_complex(leaf[s] + i * 2 * W, x[s][0]);
        }
        return;
    }
    const float *node_factors = plan.node_factors + first * 4;
    const LaneFactors lanes{plan.leaf_factors + first / GROUPS * plan.leaf_floats};
    for (int s = 0; s < Use::DOWN; ++s) leaf_down(leaf[s], node_factors, lanes);
    const int64_t at = first * 8 * W;
    use.prefetch(first * 4 * W, GROUPS * 4 * W);
    use_lanes<0>(leaf, lanes, use, at);
    if constexpr (GROUPS >= 2) use_lanes<1>(leaf, lanes, use, at);
    if constexpr (GROUPS >= 4) {
        use_lanes<2>(leaf, lanes, use, at);
        use_lanes<3>(leaf, lanes, use, at);
    }
    for (int s = 0; s < Use::UP; ++s) leaf_up(leaf[s], node_factors, lanes);
}

// The children of a node of pass p, each down, used and up again before the next, so that a part
// that has come into cache leaves it finished.
template <class Use>
void visit_children(
    float *const *node, const Plan &plan, const Use &use, int p, int64_t index) {
    const Pass &pass = plan.pass[p];
    float *child[ARRAYS<Use>];
    const bool leaves = p == plan.passes - 1;
    for (int64_t r = 0; r < pass.radix; r += leaves ? plan.leaf_nodes : 1) {
        const int64_t below = index * pass.radix + r;
        for (int s = 0; s < ARRAYS<Use>; ++s) child[s] = node[s] + r * pass.stride;
        if (leaves) {
            use_leaf(child, plan, use, below);
            continue;
        }
        for (int s = 0; s < Use::DOWN; ++s) run_pass<false>(child[s], plan, p + 1, below);
        visit_children(child, plan, use, p + 1, below);
        for (int s = 0; s < Use::UP; ++s) run_pass<true>(child[s], plan, p + 1, below);
    }
}

}  // namespace
