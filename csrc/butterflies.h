// Complex vectors and the butterflies of the transform: how a node is split, and joined again.
//
// A complex vector is W real parts followed by W imaginary parts.
#pragma once
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

// (x, y) <- (x + wy, x - wy), and the same with iw for w. Where a multiply-add is one instruction, six
// of them do it: x - wy is 2x - (x + wy).
HYENA_INLINE void split(C &x, C &y, C w) {
    if constexpr (FUSED) {
        const V two = broadcast(2.0f);
        const C sum = {
            fnma(w.im, y.im, fma(w.re, y.re, x.re)), fma(w.im, y.re, fma(w.re, y.im, x.im))};
        y = {fms(two, x.re, sum.re), fms(two, x.im, sum.im)}, x = sum;
    } else {
        const C t = w * y;
        y = x - t, x = x + t;
    }
}
HYENA_INLINE void split_i(C &x, C &y, C w) {
    if constexpr (FUSED) {
        const V two = broadcast(2.0f);
        const C sum = {
            fnma(w.im, y.re, fnma(w.re, y.im, x.re)), fnma(w.im, y.im, fma(w.re, y.re, x.im))};
        y = {fms(two, x.re, sum.re), fms(two, x.im, sum.im)}, x = sum;
    } else {
        const C t = w * y;
        y = {x.re + t.im, x.im - t.re};
        x = {x.re - t.im, x.im + t.re};
    }
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

}  // namespace
