// One more position of a Hyena operator, with its projections or without: the short convolution,
// the gates, and of each long convolution what falls within the current block, or its recurrence.
#pragma once
#include "hyena_kernel.h"
#include "linear.h"
#include "threads.h"
#include "vector.h"

namespace {

constexpr int64_t SLAB = 256;  // channels that a thread takes at once

template <class X>
X get(const float *p);
template <>
HYENA_INLINE V get<V>(const float *p) { return load(p); }
template <>
HYENA_INLINE float get<float>(const float *p) { return *p; }
HYENA_INLINE void set(float *p, V a) { store(p, a); }
HYENA_INLINE void set(float *p, float a) { *p = a; }
HYENA_INLINE float fma(float a, float b, float c) { return a * b + c; }
HYENA_INLINE float fnma(float a, float b, float c) { return c - a * b; }

// Calls work.template at<X>(d) for d in [0, count), W of them at once where there are as many.
template <class Work>
HYENA_INLINE void each(int64_t count, const Work &work) {
    int64_t d = 0;
    for (; d + W <= count; d += W) work.template at<V>(d);
    for (; d < count; ++d) work.template at<float>(d);
}

// to = the short convolution of the channels from c on, of one sequence; times `to` if GATE.
template <bool GATE>
struct ShortStep {
    const hyena_step &step;
    int64_t all, offset, c;  // channels (N + 1) D, and where the sequence begins
    float *to;

    template <class X>
    HYENA_INLINE void at(int64_t d) const {
        const float *taps = step.taps + c + d;
        const int64_t here = offset + c + d;
        X x = fma(get<X>(taps), get<X>(step.z + here), get<X>(step.bias + c + d));
        for (int j = 1; j < step.short_taps; ++j)
            x = fma(get<X>(taps + j * all), get<X>(step.before[j - 1] + here), x);
        set(to + d, GATE ? x * get<X>(to + d) : x);
    }
};

// to += u * taps
struct Add {
    float *to;
    const float *u, *taps;

    template <class X>
    HYENA_INLINE void at(int64_t d) const {
        set(to + d, fma(get<X>(u + d), get<X>(taps + d), get<X>(to + d)));
    }
};

// One mode of a recurrence: x <- a x + u, y += w . x
struct Turn {
    float *re, *im, *y;
    const float *u, *a_re, *a_im, *w_re, *w_im;

    template <class X>
    HYENA_INLINE void at(int64_t d) const {
        const X x = get<X>(re + d), i = get<X>(im + d), a = get<X>(a_re + d), b = get<X>(a_im + d);
        const X r = fnma(b, i, fma(a, x, get<X>(u + d))), q = fma(b, x, a * i);
        set(re + d, r);
        set(im + d, q);
        set(y + d, fma(get<X>(w_re + d), r, fma(get<X>(w_im + d), q, get<X>(y + d))));
    }
};

// y = skip * u
struct Skip {
    float *y;
    const float *u, *skip;

    template <class X>
    HYENA_INLINE void at(int64_t d) const {
        set(y + d, get<X>(skip + d) * get<X>(u + d));
    }
};

// v <- the outputs of channels from `first` on, of sequence b, to the inputs v.
void recurrence_step(
    const hyena_step &step, const hyena_online &conv, int64_t b, int64_t first, int64_t count,
    float *v) {
    const int64_t D = step.channels, row = step.batch * D;
    float y[SLAB];
    each(count, Skip{y, v, conv.skip + first});
    for (int64_t m = 0; m < conv.modes; ++m) {
        float *re = conv.x + m * row + b * D + first;
        const int64_t at = m * D + first, im = conv.modes * D;
        each(count, Turn{re, re + conv.modes * row, y, v, conv.decay + at, conv.decay + at + im,
                         conv.weight + at, conv.weight + at + im});
    }
    memcpy(v, y, size_t(count) * sizeof(float));
}

void step_work(const void *call, int64_t index, float *) {
    const hyena_step &step = *static_cast<const hyena_step *>(call);
    const int64_t D = step.channels, N = step.order, slabs = (D + SLAB - 1) / SLAB;
    const int64_t b = index / slabs, first = index % slabs * SLAB;
    const int64_t count = D - first < SLAB ? D - first : SLAB;
    const int64_t all = (N + 1) * D, here = b * D + first;
    float v[SLAB];
    each(count, ShortStep<false>{step, all, b * all, N * D + first, v});
    for (int64_t i = 0; i < N - 1; ++i) {
        const hyena_online &conv = step.conv[i];
        each(count, ShortStep<true>{step, all, b * all, (N - 1 - i) * D + first, v});
        if (conv.x) {
            recurrence_step(step, conv, b, first, count, v);
            continue;
        }
        memcpy(conv.input + here, v, size_t(count) * sizeof(float));
        for (int64_t r = 0; r < step.rest; ++r)
            each(count, Add{conv.due + r * step.row_stride + here, v, conv.taps + r * D + first});
        memcpy(v, conv.due + here, size_t(count) * sizeof(float));
    }
    each(count, ShortStep<true>{step, all, b * all, first, v});
    memcpy(step.y + here, v, size_t(count) * sizeof(float));
}

int32_t kernel_step(const hyena_step *step) {
    const int64_t slabs = (step->channels + SLAB - 1) / SLAB;
    int64_t work = 8 * step->order;  // for each channel, in multiplications or so
    for (int64_t i = 0; i < step->order - 1; ++i)
        work += step->conv[i].x ? 6 * step->conv[i].modes : step->rest;
    if (step->in_proj && kernel_linear(step->in_proj) != 0) return 1;
    if (run(step_work, step, step->batch * slabs, 0, grain_of(SLAB * work)) != 0) return 1;
    return step->out_proj ? kernel_linear(step->out_proj) : 0;
}

}  // namespace
