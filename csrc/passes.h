// The passes of the transform over a row's nodes: the root's, from real rows to complex children and
// back to the real part, and those below it.
#pragma once
#include "butterflies.h"
#include "plan.h"

namespace {

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

// A row in memory. What a root pass reads has an `at` as this one has, and what it writes a `put`,
// for any vector of the transform's positions; of W channels side by side t counts their floats.
template <class P>
struct Buffer {
    P *row;

    explicit Buffer(P *row_) : row(row_) {}
    HYENA_INLINE V at(int64_t t) const { return load(row + t); }
    HYENA_INLINE void put(int64_t t, V a) const { store(row + t, a); }
};

// scratch <- root split of a row (n vectors of W positions, or one vector a position); with
// IMAGINARY, scratch += i times that.
template <int R, Part PART, class From>
void root_down_radix(const From &row, float *scratch, const Plan &plan) {
    const From from = row;  // whose address nobody has, so that stores cannot change it
    const Pass &pass = plan.pass[0];
    Factors f{};
    if constexpr (R % 2 == 0) f = factors_of<R>(pass.factors);
    const int64_t part_floats = pass.child * W;
    int64_t t = 0;
    for (int64_t run = 0; run < pass.runs; ++run) {
        float *p = scratch + plan.run_offset[run];
        for (int64_t j = 0; j < pass.run; ++j, p += 2 * W, t += W) {
            V part[R];
            C x[R];
            for (int q = 0; q < R; ++q) part[q] = from.at(t + q * part_floats);
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
template <int R, Part PART, class To>
void root_up_radix(const To &row, const float *scratch, const Plan &plan) {
    const To to = row;
    const Pass &pass = plan.pass[0];
    Factors f{};
    if constexpr (R % 2 == 0) f = factors_of<R>(pass.factors);
    const int64_t part_floats = pass.child * W;
    int64_t t = 0;
    for (int64_t run = 0; run < pass.runs; ++run) {
        const float *p = scratch + plan.run_offset[run];
        for (int64_t j = 0; j < pass.run; ++j, p += 2 * W, t += W) {
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
            for (int q = 0; q < R; ++q) to.put(t + q * part_floats, part[q]);
        }
    }
}

template <Part PART, class From>
void root_down(const From &from, float *scratch, const Plan &plan) {
    switch (plan.pass[0].radix) {
        case 2: return root_down_radix<2, PART>(from, scratch, plan);
        case 3: return root_down_radix<3, PART>(from, scratch, plan);
        case 4: return root_down_radix<4, PART>(from, scratch, plan);
        case 5: return root_down_radix<5, PART>(from, scratch, plan);
        default: return root_down_radix<8, PART>(from, scratch, plan);
    }
}
template <Part PART, class To>
void root_up(const To &to, const float *scratch, const Plan &plan) {
    switch (plan.pass[0].radix) {
        case 2: return root_up_radix<2, PART>(to, scratch, plan);
        case 3: return root_up_radix<3, PART>(to, scratch, plan);
        case 4: return root_up_radix<4, PART>(to, scratch, plan);
        case 5: return root_up_radix<5, PART>(to, scratch, plan);
        default: return root_up_radix<8, PART>(to, scratch, plan);
    }
}

}  // namespace
