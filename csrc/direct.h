// A convolution of few taps in the time domain, with its gates, forward and backward: the short one
// by itself, and a long one whose filter is short against its rows.
//
// Taps that lie W apart read the same vectors of a row, so that many products share a load:
// docs/kernel.md.
#pragma once
#include "rows.h"
#include "threads.h"

#include <algorithm>

namespace {

constexpr int TOGETHER = 8;                 // vectors of outputs that are summed at once
constexpr int MOST_READ = W == 16 ? 8 : 4;  // taps at once beside them, as the registers hold
constexpr int64_t SUMMED_PIECE = 128 * W;   // positions of a float32 sum; all are added in float64

// sums[m] += sum over q < Q of taps[q] x[m - q], all of them vectors, for the m that x[I] reaches.
template <int M, int Q, int I, int q>
HYENA_INLINE void add_products(V *sums, const V *taps, V x) {
    if constexpr (q < Q) {
        if constexpr (I + q >= 0 && I + q < M) sums[I + q] = fma(taps[q], x, sums[I + q]);
        add_products<M, Q, I, q + 1>(sums, taps, x);
    }
}
template <int M, int Q, int I = 1 - Q>
HYENA_INLINE void add_vectors(V *sums, const V *taps, const float *x) {
    if constexpr (I < M) {
        add_products<M, Q, I, 0>(sums, taps, load(x + I * W));
        add_vectors<M, Q, I + 1>(sums, taps, x);
    }
}
template <int M, int Q>
HYENA_INLINE void add_taps(V *sums, const float *taps, const float *x) {
    V tap[Q];
    for (int q = 0; q < Q; ++q) tap[q] = broadcast(taps[q * W]);
    add_vectors<M, Q>(sums, tap, x);
}

// to_t = base + sum over j < count of taps_j x_(t - j), for M vectors of t.
template <int M>
HYENA_INLINE void convolve_vectors(
    float *to, const float *x, const float *taps, int count, float base) {
    V sums[M];
    for (int m = 0; m < M; ++m) sums[m] = broadcast(base);
    for (int r = 0; r < W && r < count; ++r) {
        const float *tap = taps + r, *from = x - r;
        int left = (count - r + W - 1) / W;  // taps r, r + W, ...
        if constexpr (MOST_READ == 8)
            for (; left >= 8; left -= 8, tap += 8 * W, from -= 8 * W)
                add_taps<M, 8>(sums, tap, from);
        for (; left >= 4; left -= 4, tap += 4 * W, from -= 4 * W) add_taps<M, 4>(sums, tap, from);
        if (left >= 2) {
            add_taps<M, 2>(sums, tap, from);
            left -= 2, tap += 2 * W, from -= 2 * W;
        }
        if (left == 1) add_taps<M, 1>(sums, tap, from);
    }
    for (int m = 0; m < M; ++m) store(to + m * W, sums[m]);
}

// The same for t < n, with the count - 1 numbers before the row at x. Up to a vector more is read and
// written behind it.
HYENA_APART void convolve(
    float *to, int64_t n, const float *x, const float *taps, int count, float base) {
    constexpr int64_t BLOCK = TOGETHER * W;
    const float *row = x + (count - 1);
    int64_t t = 0;
    for (; t + BLOCK <= n; t += BLOCK)
        convolve_vectors<TOGETHER>(to + t, row + t, taps, count, base);
    if (t > 0 && t < n)  // some once more, to the same result: a block is as fast as one vector
        convolve_vectors<TOGETHER>(to + (n - BLOCK), row + (n - BLOCK), taps, count, base);
    else
        for (; t < n; t += W) convolve_vectors<1>(to + t, row + t, taps, count, base);
}

// Products of M vectors of g with taps' inputs: sum q of them lies in CHAINS vectors.
template <int M, int Q, int CHAINS, int I, int q>
HYENA_INLINE void add_to_chains(V *sums, const V *g, V x) {
    if constexpr (q < Q) {
        constexpr int m = I + q;
        if constexpr (m >= 0 && m < M) {
            constexpr int chain = q * CHAINS + m % CHAINS;
            sums[chain] = fma(g[m], x, sums[chain]);
        }
        add_to_chains<M, Q, CHAINS, I, q + 1>(sums, g, x);
    }
}
template <int M, int Q, int CHAINS, int I = 1 - Q>
HYENA_INLINE void add_dots(V *sums, const V *g, const float *x) {
    if constexpr (I < M) {
        add_to_chains<M, Q, CHAINS, I, 0>(sums, g, load(x + I * W));
        add_dots<M, Q, CHAINS, I + 1>(sums, g, x);
    }
}

// The sum of a power of two of numbers, which it overwrites.
HYENA_INLINE float sum_of(float *numbers, int count) {
    for (int half = count / 2; half > 0; half /= 2)
        for (int i = 0; i < half; ++i) numbers[i] += numbers[i + half];
    return numbers[0];
}

// totals[q W] += sum over t < n of g_t x_(t - q W), for q < Q.
template <int Q>
HYENA_INLINE void correlate_taps(double *totals, int64_t n, const float *g, const float *x) {
    constexpr int M = MOST_READ, CHAINS = TOGETHER / Q;
    V sums[TOGETHER];
    for (int i = 0; i < TOGETHER; ++i) sums[i] = V{};
    int64_t t = 0;
    for (; t + M * W <= n; t += M * W) {
        V vectors[M];
        for (int m = 0; m < M; ++m) vectors[m] = load(g + t + m * W);
        add_dots<M, Q, CHAINS>(sums, vectors, x + t);
    }
    for (; t + W <= n; t += W) {
        const V vector = load(g + t);
        add_dots<1, Q, CHAINS>(sums, &vector, x + t);
    }
    float lanes[TOGETHER * W];
    for (int i = 0; i < TOGETHER; ++i) store(lanes + i * W, sums[i]);
    for (int q = 0; q < Q; ++q) {
        float rest = 0;
        for (int64_t s = t; s < n; ++s) rest += g[s] * x[s - q * W];
        totals[q * W] += double(sum_of(lanes + q * CHAINS * W, CHAINS * W)) + rest;
    }
}

// totals_j += sum over t < n of g_t x_(t - j), for j < count, with the count - 1 numbers before the
// row at x.
HYENA_APART void correlate(
    double *totals, int64_t n, const float *g, const float *x, int count) {
    for (int64_t begin = 0; begin < n; begin += SUMMED_PIECE) {
        const int64_t size = std::min(SUMMED_PIECE, n - begin);
        for (int r = 0; r < W && r < count; ++r) {
            const float *from = x + begin + (count - 1 - r);
            double *total = totals + r;
            int left = (count - r + W - 1) / W;
            if constexpr (MOST_READ == 8)
                for (; left >= 8; left -= 8, total += 8 * W, from -= 8 * W)
                    correlate_taps<8>(total, size, g + begin, from);
            for (; left >= 4; left -= 4, total += 4 * W, from -= 4 * W)
                correlate_taps<4>(total, size, g + begin, from);
            if (left >= 2) {
                correlate_taps<2>(total, size, g + begin, from);
                left -= 2, total += 2 * W, from -= 2 * W;
            }
            if (left == 1) correlate_taps<1>(total, size, g + begin, from);
        }
    }
}

double total_of(const float *g, int64_t n) {
    double total = 0;
    for (int64_t begin = 0; begin < n; begin += SUMMED_PIECE)
        total += sum_over(
            begin, std::min(n, begin + SUMMED_PIECE),
            [&](int64_t t, V sum) { return sum + load(g + t); }, [&](int64_t t) { return g[t]; });
    return total;
}

// The short convolution by itself, but where `short_conv.h` has its taps in registers; or a filter of
// so few taps that a transform would cost more.
bool few_taps(const Conv &conv) {
    if (conv.spectrum) return false;
    if (!conv.k) return conv.short_taps != 0 && conv.short_taps != 3;
    return conv.taps <= HYENA_MOST_DIRECT_TAPS && 4 * conv.taps <= conv.n;
}

struct DirectCall {
    const Conv *conv;
    const Gradients *to;
    // Of the convolution that is done here. By itself, the short one has no other before it.
    bool short_alone;
    const float *taps, *skip, *bias;
    int64_t stride, longest = 0;
    int count, lead;
    int64_t parts = 1;  // threads that share the rows of a channel, forward
    bool past_caches;

    DirectCall(const Conv &c, const Gradients *gradients)
        : conv(&c), to(gradients), short_alone(!c.k), taps(short_alone ? c.short_k : c.k),
          skip(short_alone ? nullptr : c.skip), bias(short_alone ? c.short_bias : nullptr),
          stride(short_alone ? c.short_taps : c.k_stride),
          count(int(short_alone ? c.short_taps : c.taps)),
          lead(int(short_alone ? c.short_lead : c.lead)) {
        for (int64_t r = 0; r < c.rows; ++r) longest = std::max(longest, c.row[r].length);
        const int64_t written = positions() * c.channels * size_of(c.dtype);
        past_caches = (to ? c.parts * written : written) > LARGEST_CACHED;
    }
    int short_taps() const { return short_alone ? 0 : conv->short_taps; }
    int reach() const { return count - 1 - lead; }  // furthest lag
    int64_t positions() const { return positions_of(conv->row, conv->rows); }

    // Those of channel d, the skip among them, and backwards where that is asked for.
    void copy_taps(float *copy, float *backwards, int64_t d) const {
        for (int j = 0; j < count; ++j) copy[j] = taps[d * stride + j];
        if (skip) copy[lead] += skip[d];
        for (int j = 0; backwards && j < count; ++j) backwards[j] = copy[count - 1 - j];
    }
    // What a row with its neighbours takes.
    int64_t row_floats() const { return (longest + count - 1 + 2 * W - 1) / W * W; }
    int64_t tap_floats() const { return (count + W - 1) / W * W; }
};

// x <- a_t b_t of a row, so many zeros before and behind it.
template <class A, class B>
void lay_out(float *x, const A &a, const B &b, int64_t length, int before, int behind) {
    std::fill(x, x + before, 0.0f);
    product(x + before, a, b, 0, length);
    std::fill(x + before + length, x + before + length + behind, 0.0f);
}

struct DirectRoom {
    float *taps, *x, *y;

    DirectRoom(Room &room, const DirectCall &call)
        : taps(room.take(call.tap_floats())), x(room.take(call.row_floats())),
          y(room.take(call.row_floats())) {}
};

template <class T, int J>
void direct_forward_work(const void *given, int64_t index, float *memory) {
    const DirectCall &call = *static_cast<const DirectCall *>(given);
    const Conv &conv = *call.conv;
    Room room{memory};
    const DirectRoom own(room, call);
    const int64_t d = index / call.parts;
    const Share rows = share_of(conv.rows, index % call.parts, call.parts);
    call.copy_taps(own.taps, nullptr, d);
    for (int64_t r = rows.begin; r < rows.end; ++r) {
        const hyena_row &row = conv.row[r];
        const auto source = [&](const Input &input) {
            return source_of<T, J>(input, row, d, conv.short_taps, conv.short_lead);
        };
        // All of the row, since y may take the place of value.
        const int before = call.reach(), behind = call.lead;
        if (conv.pre.data)
            lay_out(own.x, source(conv.value), source(conv.pre), row.length, before, behind);
        else
            lay_out(own.x, source(conv.value), Nothing{}, row.length, before, behind);
        convolve(own.y, row.length, own.x, own.taps, call.count, call.bias ? call.bias[d] : 0.0f);
        const auto write = [&](const auto &to) {
            for (int64_t t = 0; t < row.length; t += W) to.put(t, load(own.y + t));
        };
        T *y = row_of_y<T>(conv, row, d);
        if (conv.post.data)
            write(Times(y, source(conv.post), row.length, call.past_caches));
        else
            write(Times(y, Nothing{}, row.length, call.past_caches));
    }
}

// Whether the gradient of a convolution's input has to be known.
template <int J>
bool wants_input(const Gradients &to) {
    return J == 0 ? to.value.data != nullptr : to.value.wanted() || to.pre.wanted();
}
// The gradients of a row's inputs, from its output before the gate and from the gradient of the
// convolution's input; null where nobody wants what comes of it. `sums`: of post, pre and value.
template <class T, int J>
HYENA_APART void put_input_gradients(
    const Conv &conv, const Gradients &to, const hyena_row &row, int64_t d, const float *y,
    const float *du, TapSums *sums, float *piece, bool past_caches) {
    const auto source = [&](const Input &input) {
        return source_of<T, J>(input, row, d, conv.short_taps, conv.short_lead);
    };
    const auto write = [&](const Gradient &part, const Input &input, const auto &a,
                           const auto &b, TapSums &sum) {
        input_gradient<T, J>(part, input, row, d, conv, a, b, sum, piece, past_caches);
    };
    if (y)
        write(to.post, conv.post, output_gradient<T>(conv, row, d), plain(y, row.length), sums[0]);
    if (!du) return;
    const Plain gradient = plain(du, row.length);
    if (conv.pre.data) {
        write(to.pre, conv.pre, source(conv.value), gradient, sums[1]);
        write(to.value, conv.value, source(conv.pre), gradient, sums[2]);
    } else {
        write(to.value, conv.value, gradient, Nothing{}, sums[2]);
    }
}
void write_all_sums(const Conv &conv, const Gradients &to, int64_t d, const TapSums *sums) {
    write_sums(to.post, d, conv.short_taps, sums[0]);
    write_sums(to.pre, d, conv.short_taps, sums[1]);
    write_sums(to.value, d, conv.short_taps, sums[2]);
}

struct DirectBackwardRoom : DirectRoom {
    float *backwards, *g, *du, *piece;

    DirectBackwardRoom(Room &room, const DirectCall &call)
        : DirectRoom(room, call), backwards(room.take(call.tap_floats())),
          g(room.take(call.row_floats())), du(room.take(call.row_floats())),
          piece(room.take(LONGEST_PIECE)) {}
};

template <class T, int J>
void direct_backward_work(const void *given, int64_t d, float *memory) {
    const DirectCall &call = *static_cast<const DirectCall *>(given);
    const Conv &conv = *call.conv;
    const Gradients &to = *call.to;
    Room room{memory};
    const DirectBackwardRoom own(room, call);
    float *k = call.short_alone ? to.value.taps : to.k;
    float *skip = call.short_alone ? nullptr : to.skip;
    float *bias = call.short_alone ? to.value.bias : nullptr;
    const bool want_post = conv.post.data && to.post.wanted();
    const bool want_du = wants_input<J>(to);
    double totals[HYENA_MOST_DIRECT_TAPS] = {}, total = 0;
    TapSums sums[3] = {};  // of the short convolutions before the gates
    call.copy_taps(own.taps, own.backwards, d);
    for (int64_t r = 0; r < conv.rows; ++r) {
        const hyena_row &row = conv.row[r];
        const int64_t length = row.length;
        const auto source = [&](const Input &input) {
            return source_of<T, J>(input, row, d, conv.short_taps, conv.short_lead);
        };
        const auto dy = output_gradient<T>(conv, row, d);
        if (conv.post.data)
            lay_out(own.g, source(conv.post), dy, length, call.lead, call.reach());
        else
            lay_out(own.g, dy, Nothing{}, length, call.lead, call.reach());
        const float *g = own.g + call.lead;
        if (bias) total += total_of(g, length);
        if (k || skip || want_post) {
            if (conv.pre.data)
                lay_out(
                    own.x, source(conv.value), source(conv.pre), length, call.reach(), call.lead);
            else
                lay_out(own.x, source(conv.value), Nothing{}, length, call.reach(), call.lead);
        }
        if (k || skip) correlate(totals, length, g, own.x, call.count);
        if (want_post) convolve(own.y, length, own.x, own.taps, call.count, 0.0f);
        if (want_du) convolve(own.du, length, own.g, own.backwards, call.count, 0.0f);
        put_input_gradients<T, J>(
            conv, to, row, d, want_post ? own.y : nullptr, want_du ? own.du : nullptr, sums,
            own.piece, call.past_caches);
    }
    for (int j = 0; k && j < call.count; ++j) k[d * call.count + j] = float(totals[j]);
    if (skip) skip[d] = float(totals[call.lead]);
    if (bias) bias[d] = float(total);
    if (!call.short_alone) write_all_sums(conv, to, d, sums);
}

int32_t direct_forward(const Conv &conv) {
    DirectCall call(conv, nullptr);
    const int64_t longest = conv.rows ? call.positions() / conv.rows : 0;
    const int64_t groups = groups_of(conv.channels, conv.rows, longest);
    call.parts = parts_of(conv.channels, conv.rows, groups);
    return run(
        HYENA_CHOOSE(direct_forward_work, conv.dtype, call.short_taps()), &call,
        conv.channels * call.parts, floats_of<DirectRoom>(call),
        grain_of(call.positions() / call.parts));
}

int32_t direct_backward(const Conv &conv, const Gradients &to) {
    const DirectCall call(conv, &to);
    return run(
        HYENA_CHOOSE(direct_backward_work, conv.dtype, call.short_taps()), &call, conv.channels,
        floats_of<DirectBackwardRoom>(call), grain_of(call.positions()));
}

}  // namespace
