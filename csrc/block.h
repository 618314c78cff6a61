// Blocks of a model at one more position, for a few vectors: norm, mixer and residual, then norm, MLP
// and residual.
#pragma once
#include <cmath>

#include "hyena_kernel.h"
#include "linear.h"
#include "step.h"
#include "vector.h"

namespace {

// x <- x + what comes, `count` numbers of type T.
template <class T>
void add_to(float *x, const void *from, int64_t count) {
    const T *more = static_cast<const T *>(from);
    int64_t i = 0;
    for (; i + W <= count; i += W) store(x + i, load(x + i) + many(more + i));
    for (; i < count; ++i) x[i] += one(more + i);
}

// y = weight (x - mean) / sqrt(variance + epsilon) + bias, of one vector of D numbers.
template <class T>
void layer_norm(const hyena_norm &norm, int64_t D, const float *x, float *y) {
    const T *weight = static_cast<const T *>(norm.weight);
    const T *bias = static_cast<const T *>(norm.bias);
    V sums = broadcast(0);
    float total = 0, squares = 0;
    int64_t i = 0;
    for (; i + W <= D; i += W) sums = sums + load(x + i);
    for (; i < D; ++i) total += x[i];
    const float mean = (sum(sums) + total) / float(D);
    sums = broadcast(0);
    for (i = 0; i + W <= D; i += W) {
        const V apart = load(x + i) - broadcast(mean);
        store(y + i, apart);
        sums = fma(apart, apart, sums);
    }
    for (; i < D; ++i) {
        y[i] = x[i] - mean;
        squares += y[i] * y[i];
    }
    const float variance = (sum(sums) + squares) / float(D);
    const float scale = float(1 / std::sqrt(double(variance) + norm.epsilon));
    for (i = 0; i + W <= D; i += W)
        store(y + i, fma(load(y + i) * broadcast(scale), many(weight + i), many(bias + i)));
    for (; i < D; ++i) y[i] = y[i] * scale * one(weight + i) + one(bias + i);
}

// x <- x + what the mixer makes of u, which is what a norm made of x.
int32_t mix(const hyena_step &given, int64_t count, float *u, float *x) {
    hyena_step step = given;
    hyena_linear first = *given.in_proj, last = *given.out_proj;
    first.x = last.y = u;
    first.x_dtype = last.y_dtype = HYENA_FLOAT32;
    step.in_proj = &first, step.out_proj = &last;
    if (kernel_step(&step) != 0) return 1;
    add_to<float>(x, u, count);
    return 0;
}

// The parameters of the norms and the MLP are of type T.
template <class T>
int32_t through_block(const hyena_block &block, float *x) {
    const int64_t B = block.batch, D = block.width, H = block.hidden, count = B * D;
    float *u = workspace(count + B * H);  // of this thread; others read and write it, too
    if (!u) return 1;
    float *hidden = u + count;
    if (block.step) {
        for (int64_t i = 0; i < count; i += D) layer_norm<T>(block.before_mixer, D, x + i, u + i);
        if (mix(*block.step, count, u, x) != 0) return 1;
    } else if (block.mixed_dtype == HYENA_FLOAT32) {
        add_to<float>(x, block.mixed, count);
    } else if (block.mixed_dtype == HYENA_BFLOAT16) {
        add_to<Bfloat16>(x, block.mixed, count);
    } else {
        add_to<Float16>(x, block.mixed, count);
    }
    for (int64_t i = 0; i < count; i += D) layer_norm<T>(block.before_mlp, D, x + i, u + i);
    const int32_t wide = HYENA_FLOAT32;
    const hyena_linear up = {
        B, D, H, block.dtype, wide, wide, u, block.up_weight, block.up_bias, hidden};
    const hyena_linear down = {
        B, H, D, block.dtype, wide, wide, hidden, block.down_weight, block.down_bias, u};
    if (linear(up, true) != 0 || linear(down, false) != 0) return 1;
    add_to<float>(x, u, count);
    return 0;
}

int32_t kernel_blocks(const hyena_block *block, int64_t count, float *x) {
    for (int64_t i = 0; i < count; ++i) {
        const int32_t failed = block[i].dtype == HYENA_FLOAT32    ? through_block<float>(block[i], x)
                               : block[i].dtype == HYENA_BFLOAT16 ? through_block<Bfloat16>(block[i], x)
                                                                  : through_block<Float16>(block[i], x);
        if (failed) return 1;
    }
    return 0;
}

}  // namespace
