// What the transform is for: the products with a filter's spectrum, and what memory is fetched
// meanwhile.
#pragma once
#include "butterflies.h"

namespace {

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

}  // namespace
