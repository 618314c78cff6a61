// The right-angle transform of one row (or of W channels): down the tree, what is done with the
// spectrum leaf by leaf, and up again. docs/kernel.md derives it; plan.h has the constants.
//
// The order of the spectrum is the tree's and never undone: what multiplies it has the same order.
#pragma once
#include "leaves.h"
#include "passes.h"
#include "plan.h"
#include "products.h"

namespace {

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
    const int64_t at = first * 8 * W;
    auto fetching = use.fetch(first * 4 * W, GROUPS * 4 * W, Use::DOWN + GROUPS + Use::UP);
    const auto fetch = [&] { fetching.some(); };
    for (int s = 0; s < Use::DOWN; ++s) fetch(), leaf_down(leaf[s], node_factors, lanes);
    fetch(), use_lanes<0>(leaf, lanes, use, at);
    if constexpr (GROUPS >= 2) fetch(), use_lanes<1>(leaf, lanes, use, at);
    if constexpr (GROUPS >= 4) {
        fetch(), use_lanes<2>(leaf, lanes, use, at);
        fetch(), use_lanes<3>(leaf, lanes, use, at);
    }
    for (int s = 0; s < Use::UP; ++s) fetch(), leaf_up(leaf[s], node_factors, lanes);
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
