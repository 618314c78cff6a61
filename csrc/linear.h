// A linear layer on a few vectors: its matrix is read once, which is what such a product costs.
//
// Each output is summed in one order, whatever the other vectors and rows and whoever does them.
#pragma once
#include <algorithm>

#include "gelu.h"
#include "hyena_kernel.h"
#include "threads.h"
#include "vector.h"

namespace {

constexpr int TILE_ROWS = 4;                             // of the matrix at once
constexpr int TILE_VECTORS = WIDEST_RADIX == 8 ? 4 : 2;  // as many as the registers hold
constexpr int64_t LEAST_PRODUCTS = 32768;                // that are worth a thread
constexpr int64_t AHEAD = 2048;                          // bytes: as far as rows are fetched

// A layer whose rows are shared out in parts. Within one, the rows of a tile lie far apart: each
// goes on where it ended in the tile before, so that memory is read as four long streams.
struct LinearCall {
    hyena_linear linear;
    bool activated;  // with tanh-GELU after it, y being float32
    int64_t parts;
};

HYENA_INLINE void put_output(const hyena_linear &linear, int64_t at, float a) {
    if (linear.y_dtype == HYENA_FLOAT32)
        put_one(static_cast<float *>(linear.y) + at, a);
    else if (linear.y_dtype == HYENA_BFLOAT16)
        put_one(static_cast<Bfloat16 *>(linear.y) + at, a);
    else
        put_one(static_cast<Float16 *>(linear.y) + at, a);
}

// y of the rows first, first + apart, ..., so many of them, for N vectors from b on.
template <class T, int N>
HYENA_INLINE void linear_tile(
    const hyena_linear &linear, int64_t first, int64_t apart, int rows, int64_t b) {
    const int64_t I = linear.inputs;
    int64_t row[TILE_ROWS];  // in place of those that are missing, the last one once more
    const T *w[TILE_ROWS];
    for (int r = 0; r < TILE_ROWS; ++r) {
        row[r] = first + (r < rows ? r : rows - 1) * apart;
        w[r] = static_cast<const T *>(linear.weight) + row[r] * I;
    }
    const float *x = static_cast<const float *>(linear.x) + b * I;
    V sums[N][TILE_ROWS];
    for (int n = 0; n < N; ++n)
        for (int r = 0; r < TILE_ROWS; ++r) sums[n][r] = broadcast(0);
    int64_t i = 0;
    for (; i + W <= I; i += W) {
        V u[N];
        for (int n = 0; n < N; ++n) u[n] = load(x + n * I + i);
        for (int r = 0; r < TILE_ROWS; ++r) {
            HYENA_PREFETCH(w[r] + i + AHEAD / int64_t(sizeof(T)));
            const V a = many(w[r] + i);
            for (int n = 0; n < N; ++n) sums[n][r] = fma(a, u[n], sums[n][r]);
        }
    }
    const T *bias = static_cast<const T *>(linear.bias);
    for (int n = 0; n < N; ++n) {
        V *s = sums[n];
        transpose4(s[0], s[1], s[2], s[3]);
        float lanes[W];  // of every four, one of each row
        store(lanes, (s[0] + s[1]) + (s[2] + s[3]));
        for (int r = 0; r < rows; ++r) {
            float sum = bias ? one(bias + row[r]) : 0;
            for (int lane = r; lane < W; lane += 4) sum += lanes[lane];
            for (int64_t j = i; j < I; ++j) sum += one(w[r] + j) * x[n * I + j];
            put_output(linear, (b + n) * linear.outputs + row[r], sum);
        }
    }
}

template <class T>
void linear_rows(const hyena_linear &linear, int64_t first, int64_t apart, int rows) {
    int64_t b = 0;
    for (; b + TILE_VECTORS <= linear.batch; b += TILE_VECTORS)
        linear_tile<T, TILE_VECTORS>(linear, first, apart, rows, b);
    for (; b + 2 <= linear.batch; b += 2) linear_tile<T, 2>(linear, first, apart, rows, b);
    if (b < linear.batch) linear_tile<T, 1>(linear, first, apart, rows, b);
}

template <class T>
void linear_work(const void *given, int64_t part, float *) {
    const LinearCall &call = *static_cast<const LinearCall *>(given);
    const Share share = share_of(call.linear.outputs, part, call.parts);
    const int64_t stream = share.count() / TILE_ROWS, rest = share.count() % TILE_ROWS;
    for (int64_t r = 0; r < stream; ++r)
        linear_rows<T>(call.linear, share.begin + r, stream, TILE_ROWS);
    if (rest > 0) linear_rows<T>(call.linear, share.end - rest, 1, int(rest));
    if (!call.activated) return;
    float *y = static_cast<float *>(call.linear.y) + share.begin;
    for (int64_t b = 0; b < call.linear.batch; ++b)
        gelu(y + b * call.linear.outputs, share.count());
}

template <class T>
void widen(float *to, const void *from, int64_t count) {
    const T *x = static_cast<const T *>(from);
    int64_t i = 0;
    for (; i + W <= count; i += W) store(to + i, many(x + i));
    for (; i < count; ++i) to[i] = one(x + i);
}

int32_t linear(const hyena_linear &given, bool activated) {
    LinearCall call{given, activated, 1};
    hyena_linear &linear = call.linear;
    if (linear.x_dtype != HYENA_FLOAT32) {
        const int64_t count = linear.batch * linear.inputs;
        float *x = workspace(count);  // of this thread; the others only read it
        if (!x) return 1;
        if (linear.x_dtype == HYENA_BFLOAT16)
            widen<Bfloat16>(x, linear.x, count);
        else
            widen<Float16>(x, linear.x, count);
        linear.x = x;
    }
    const UnitWork work = linear.dtype == HYENA_FLOAT32    ? linear_work<float>
                          : linear.dtype == HYENA_BFLOAT16 ? linear_work<Bfloat16>
                                                           : linear_work<Float16>;
    const int64_t most = linear.outputs * linear.inputs * linear.batch / LEAST_PRODUCTS;
    call.parts = std::max<int64_t>(1, std::min(threads(), most));
    return run(work, &call, call.parts, 0, 1);
}

int32_t kernel_linear(const hyena_linear *given) { return linear(*given, false); }

}  // namespace
