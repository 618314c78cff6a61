// Convolutions with sums of exponentials, in time that grows with L n: a row, a block at a time.
//
// A chunk is W positions. What its inputs add to its own outputs are W taps; what everything before
// adds comes from the state of each mode, which goes from chunk to chunk. All powers within a chunk
// are computed in float64. docs/kernel.md derives it.
#pragma once
#include "butterflies.h"
#include "rows.h"
#include "threads.h"

#include <algorithm>
#include <cmath>

namespace {

constexpr int CHUNKS = 8;            // of a block: all at once, so that they share what is read
constexpr int64_t SPAN = CHUNKS * W;  // positions of a block
constexpr int64_t APART = 2 * W;      // floats from a chunk to the next, with zeros between them
constexpr int64_t LAID_OUT = CHUNKS * APART + W;
constexpr int64_t SUMMED_BLOCKS = 16;  // of a float32 sum; these are added in float64

struct Number {
    double re, im;
};
inline Number operator*(Number a, Number b) {
    return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}
inline Number operator*(double a, Number b) { return {a * b.re, a * b.im}; }
inline Number operator+(Number a, Number b) { return {a.re + b.re, a.im + b.im}; }

// Mode s of a channel, of P numbers: one, or real and imaginary part.
template <int P, class Real>
Number mode_of(const Real *modes, int64_t s) {
    return {modes[s * P], P == 2 ? modes[s * P + P - 1] : 0.0};
}
template <int P>
Number decay_of(const double *log_decay, int64_t s) {
    const Number e = mode_of<P>(log_decay, s);
    const double size = std::exp(e.re);
    if (P == 1) return {size, 0};
    return {size * std::cos(e.im), size * std::sin(e.im)};
}

// Powers below this count for nothing in float32, and for hundreds of cycles if they come to be below
// its normal numbers.
constexpr double LEAST_POWER = 1e-20;

// What the modes of a channel come to within a chunk. A state is P planes, of all real parts and of all
// imaginary ones: one number a mode and zeros up to whole vectors, `row` floats together.
template <int P>
struct Powers {
    int64_t modes, plane, row;
    float *taps;         // (W): h, with the skip
    float *left;         // (W, row): a^(W-1-i), what an input leaves in the state behind the chunk
    float *counted;      // (W, row): (W-1-i) a^(W-1-i); for gradients
    float *read;         // (n, P, W): w a^(i+1), what the state before adds; Re w, -Im w and so on
    float *read_back;    // (n, P, W): w a^(W-i), the same from behind; for gradients
    float *step, *rest;  // (row): a^W, and what rounding it left off
    bool gradients;

    Powers(Room &room, int64_t n, bool with_gradients)
        : modes(n), plane((n + W - 1) / W * W), row(P * plane), taps(room.take(W)),
          left(room.take(W * row)), counted(room.take(with_gradients ? W * row : 0)),
          read(room.take(n * P * W)), read_back(room.take(with_gradients ? n * P * W : 0)),
          step(room.take(row)), rest(room.take(row)), gradients(with_gradients) {}

    void fill(const Conv &conv, const hyena_modes &of, int64_t d) const {
        const int64_t at = d * modes * P;
        double h[W] = {};
        if (conv.skip) h[0] = conv.skip[d];
        std::fill(left, left + W * row, 0.0f);
        std::fill(step, step + row, 0.0f);
        std::fill(rest, rest + row, 0.0f);
        if (gradients) std::fill(counted, counted + W * row, 0.0f);
        for (int64_t s = 0; s < modes; ++s) {
            const Number a = decay_of<P>(of.log_decay + at, s);
            const Number w = mode_of<P>(of.weight + at, s);
            Number power = {1, 0};  // a^i
            for (int i = 0; i < W; ++i) {
                h[i] += (w * power).re;
                put_planes(left + (W - 1 - i) * row + s, plane, power);
                if (gradients) put_planes(counted + (W - 1 - i) * row + s, plane, i * power);
                power = power * a;
                if (power.re * power.re + power.im * power.im < LEAST_POWER * LEAST_POWER)
                    power = {0, 0};
                // Of a product's real part, that of the imaginary ones is taken off.
                const Number factor = {(w * power).re, -(w * power).im};
                float *reads = read + s * P * W, *reads_back = read_back + s * P * W;
                put_planes(reads + i, W, factor);
                if (gradients) put_planes(reads_back + W - 1 - i, W, factor);
            }
            put_planes(step + s, plane, power);
            const Number rounded = {step[s], P == 2 ? step[row - plane + s] : 0.0};
            put_planes(rest + s, plane, power + -1.0 * rounded);
        }
        for (int i = 0; i < W; ++i) taps[i] = float(h[i]);
    }

    static void put_planes(float *to, int64_t apart, Number a) {
        to[0] = float(a.re);
        if (P == 2) to[apart] = float(a.im);
    }
};

// The next block of a row, as chunks that have zeros on both sides, which are there already.
template <class From>
void spread(float *chunks, const From &from, int64_t t) {
    for (int c = 0; c < CHUNKS; ++c) store(chunks + c * APART, from.at(t + c * W));
}
template <class To>
void put_block(const To &to, const float *y, int64_t t) {
    for (int c = 0; c < CHUNKS; ++c) to.put(t + c * W, load(y + c * W));
}

// For each chunk the sum over i < W of table_i times its position i, of one vector of modes.
HYENA_INLINE void weigh(
    const float *table, int64_t step, const float *chunks, float *sums, int64_t row) {
    V sum[CHUNKS];
    for (int c = 0; c < CHUNKS; ++c) sum[c] = V{};
    for (int i = 0; i < W; ++i) {
        const V power = load(table + i * step);
        for (int c = 0; c < CHUNKS; ++c)
            sum[c] = fma(power, broadcast(chunks[c * APART + i]), sum[c]);
    }
    for (int c = 0; c < CHUNKS; ++c) store(sums + c * row, sum[c]);
}
// The same for all modes. With BACK, position i counts as W - 1 - i does.
template <int P, bool BACK>
HYENA_APART void weigh_all(
    const Powers<P> &powers, const float *table, const float *chunks, float *sums) {
    const int64_t row = powers.row;
    for (int64_t v = 0; v < row; v += W) {
        const float *first = table + v + (BACK ? (W - 1) * row : 0);
        weigh(first, BACK ? -row : row, chunks, sums + v, row);
    }
}

// A vector of modes; the imaginary part of real ones is not there.
template <int P>
HYENA_INLINE C load_modes(const float *state, int64_t plane) {
    return {load(state), P == 2 ? load(state + (P - 1) * plane) : V{}};
}
template <int P>
HYENA_INLINE void store_modes(float *state, int64_t plane, C a) {
    store(state, a.re);
    if (P == 2) store(state + plane, a.im);
}
template <int P>
HYENA_INLINE C multiply_add(C a, C b, C c) {  // a b + c
    if constexpr (P == 1)
        return {fma(a.re, b.re, c.re), c.im};
    else
        return {fnma(a.im, b.im, fma(a.re, b.re, c.re)), fma(a.im, b.re, fma(a.re, b.im, c.im))};
}

// x through a block's chunks, x <- a^W x + sum of the chunk, and in `states` x before each of them.
// With BACK, from the last chunk to the first.
template <int P, bool BACK>
HYENA_APART void follow(const Powers<P> &powers, const float *sums, float *x, float *states) {
    const int64_t plane = powers.plane, row = powers.row;
    for (int64_t v = 0; v < plane; v += W) {
        const C step = load_modes<P>(powers.step + v, plane);
        const C rest = load_modes<P>(powers.rest + v, plane);
        C state = load_modes<P>(x + v, plane);
        for (int i = 0; i < CHUNKS; ++i) {
            const int64_t at = (BACK ? CHUNKS - 1 - i : i) * row + v;
            store_modes<P>(states + at, plane, state);
            const C added = load_modes<P>(sums + at, plane);
            state = multiply_add<P>(step, state, multiply_add<P>(rest, state, added));
        }
        store_modes<P>(x + v, plane, state);
    }
}

// y (CHUNKS, W) of a block, from its inputs and the states before its chunks; with BACK, of the
// positions behind, and the states behind.
template <int P, bool BACK>
HYENA_APART void respond(
    const Powers<P> &powers, const float *chunks, const float *states, float *y) {
    const int64_t plane = powers.plane, row = powers.row;
    const float *table = BACK ? powers.read_back : powers.read;
    V sum[CHUNKS];
    for (int c = 0; c < CHUNKS; ++c) sum[c] = V{};
    for (int j = 0; j < W; ++j) {
        const V tap = broadcast(powers.taps[j]);
        const float *from = chunks + (BACK ? j : -j);
        for (int c = 0; c < CHUNKS; ++c) sum[c] = fma(tap, load(from + c * APART), sum[c]);
    }
    for (int64_t s = 0; s < powers.modes; ++s) {
        for (int p = 0; p < P; ++p) {
            const V power = load(table + (s * P + p) * W);
            const float *state = states + p * plane + s;
            for (int c = 0; c < CHUNKS; ++c)
                sum[c] = fma(power, broadcast(state[c * row]), sum[c]);
        }
    }
    for (int c = 0; c < CHUNKS; ++c) store(y + c * W, sum[c]);
}

}  // namespace
