// Sizes and constants of a transform; made once for each size and never freed.
//
// The transform evaluates a polynomial of degree < n at the roots of Z^n = -i, by splitting
// Z^m - c into Z^(m/2) - sqrt(c) and Z^(m/2) + sqrt(c) over and over. What is split is a node, c =
// exp(i angle) is its constant, and the factors that a pass multiplies with depend on the node
// alone. docs/kernel.md derives it.
#pragma once
#include <stdint.h>

// One pass splits each of its nodes into `radix` children.
struct Pass {
    int radix;
    int64_t child;   // length of a child in complex vectors
    int64_t stride;  // floats from one child to the next, padding included
    int64_t runs, run;  // a child is stored as runs of so many complex vectors
    const float *factors;  // for each node of the pass
    int64_t factors_per_node;
};

struct Plan {
    int64_t n;
    // Lanes hold W channels, and a vector is one position; or W neighbouring positions of one row,
    // and the last levels, the leaves, are done by transposing.
    bool channel_lanes;
    int passes;
    Pass pass[16];
    const int64_t *run_offset;  // of run r within a node, in floats
    int64_t scratch;            // floats of one transform
    int64_t leaf_nodes;         // last children that lie side by side in a leaf
    const float *node_factors;  // of the radix-4 split of each last child, rows only
    const float *leaf_factors;  // of the splits within lanes, for each leaf, rows only
    int64_t leaf_floats;
};

// None of these functions throws.
//
// The plan for n, of vectors of `width` floats and passes of at most `widest_radix`; null if memory
// ran out.
const Plan *plan_of(int64_t n, bool channel_lanes, int width, int widest_radix);
// The smallest n that plan_of can serve and that is at least `least`; -1 if there is none, -2
// if memory ran out.
int64_t size_at_least(int64_t least, bool channel_lanes, int width, int widest_radix);
// Memory of the calling thread, 64-byte aligned and kept for its next call; null if there is none.
float *workspace(int64_t floats);
