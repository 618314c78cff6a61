// The leaves of the transform: its last levels, which end within a vector.
#pragma once
#include "butterflies.h"

namespace {

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

}  // namespace
