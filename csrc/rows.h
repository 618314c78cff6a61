// One row of an input: its short convolution, its product with another row, and their gradients.
// All of it in the time domain, a vector of positions at a time.
#pragma once
#include "hyena_kernel.h"
#include "vector.h"

#include <type_traits>

namespace {

// Output of more bytes than this does not stay in cache until it is read.
constexpr int64_t LARGEST_CACHED = 16 << 20;

// A part of the input (B, D, L), and the short convolution that it passes first.
struct Input {
    const void *data;  // null: this part is absent
    int64_t batch_stride, channel_stride;
    const float *taps, *bias, *offset;
};
// Where its gradients go; null where one is not wanted.
struct Gradient {
    void *data;
    int64_t batch_stride, channel_stride;
    float *taps, *bias;

    bool wanted() const { return data || taps || bias; }
};

inline int64_t size_of(int32_t dtype) { return dtype == HYENA_FLOAT32 ? 4 : 2; }

template <class P>
P *further(P *pointer, int64_t count) {
    return pointer ? pointer + count : nullptr;
}
template <class P>  // the same of a pointer to numbers of this dtype
P *further(P *pointer, int64_t count, int32_t dtype) {
    using Byte = std::conditional_t<std::is_const_v<P>, const char, char>;
    return further(static_cast<Byte *>(pointer), count * size_of(dtype));
}

// A call's convolution, its input in parts.
struct Conv : hyena_conv {
    Input value, pre{}, post{};

    explicit Conv(const hyena_conv &conv) : hyena_conv(conv), value(part(parts - 1)) {
        if (parts == 3) post = part(0), pre = part(1);
    }
    Input part(int64_t index) const {
        const int64_t d = index * channels;
        return {further(z, d * z_channel_stride, dtype), z_batch_stride, z_channel_stride,
                further(short_k, d * short_taps), further(short_bias, d), further(offset, d)};
    }
};
struct Gradients : hyena_gradients {
    Gradient value, pre{}, post{};

    Gradients(const hyena_gradients &to, const Conv &conv)
        : hyena_gradients(to), value(part(conv, conv.parts - 1)) {
        if (conv.parts == 3) post = part(conv, 0), pre = part(conv, 1);
    }
    Gradient part(const Conv &conv, int64_t index) const {
        const int64_t d = index * conv.channels;
        return {further(z, d * z_channel_stride, conv.dtype), z_batch_stride, z_channel_stride,
                further(short_k, d * conv.short_taps), further(short_bias, d)};
    }
};

// A row of a part of the input or of its gradient, of y or of dy.
template <class T, class P>
T *row_of(P *data, int64_t batch_stride, int64_t channel_stride, const hyena_row &row, int64_t d) {
    if (!data) return nullptr;
    return static_cast<T *>(data) + row.batch * batch_stride + d * channel_stride + row.start;
}
template <class T>
const T *row_of(const Input &input, const hyena_row &row, int64_t d) {
    return row_of<const T>(input.data, input.batch_stride, input.channel_stride, row, d);
}
template <class T>
T *row_of(const Gradient &to, const hyena_row &row, int64_t d) {
    return row_of<T>(to.data, to.batch_stride, to.channel_stride, row, d);
}
template <class T>
T *row_of_y(const Conv &conv, const hyena_row &row, int64_t d) {
    return row_of<T>(conv.y, conv.y_batch_stride, conv.y_channel_stride, row, d);
}

// How a row's values come about. J: taps of the short convolution, 0 for none, -1 for any number.
template <class T, int J>
struct Source {
    static constexpr bool AT_ROOT = J >= 0 && !std::is_same_v<T, Float16>;
    const T *x;
    int64_t length;
    const float *taps;
    float bias, offset;
    float constant;  // what bias and offset come to where no tap reaches past the row
    int count, lead;

    int reach() const { return J == 0 ? 0 : (J > 0 ? J : count) - 1 - lead; }  // furthest lag
    int64_t first() const { return J == 0 ? 0 : reach(); }  // where whole vectors may begin
    int64_t last() const { return J == 0 ? length : length - lead; }  // and must end

    HYENA_INLINE V raw(int64_t t) const { return many(x + t) + broadcast(offset); }
    HYENA_INLINE float raw_one(int64_t t) const { return one(x + t) + offset; }
    HYENA_INLINE V at(int64_t t) const {  // positions t ... t + W - 1, all neighbours in the row
        if constexpr (J == 0) return raw(t);
        V a = broadcast(constant);
        const int64_t from = t + lead;
        if constexpr (J > 0) {
            for (int j = 0; j < J; ++j) a = fma(broadcast(taps[j]), many(x + from - j), a);
        } else {
            for (int j = 0; j < count; ++j) a = fma(broadcast(taps[j]), many(x + from - j), a);
        }
        return a;
    }
    HYENA_INLINE float one_at(int64_t t) const {
        if constexpr (J == 0) return raw_one(t);
        float a = bias;
        for (int j = 0; j < (J > 0 ? J : count); ++j) {
            const int64_t s = t + lead - j;
            if (s >= 0 && s < length) a += taps[j] * raw_one(s);
        }
        return a;
    }
};

// A row of floats as it is.
using Plain = Source<float, 0>;
HYENA_INLINE Plain plain(const float *x, int64_t length) {
    Plain row{};
    row.x = x, row.length = length;
    return row;
}

struct Nothing {  // the factor one
    static constexpr bool AT_ROOT = true;
    int64_t first() const { return 0; }
    int64_t last() const { return INT64_MAX; }
};
template <class A, class B>
HYENA_INLINE V product_at(const A &a, const B &b, int64_t t) {
    return a.at(t) * b.at(t);
}
template <class A>
HYENA_INLINE V product_at(const A &a, const Nothing &, int64_t t) {
    return a.at(t);
}
template <class A, class B>
HYENA_INLINE float product_one(const A &a, const B &b, int64_t t) {
    return a.one_at(t) * b.one_at(t);
}
template <class A>
HYENA_INLINE float product_one(const A &a, const Nothing &, int64_t t) {
    return a.one_at(t);
}
template <class A>
HYENA_INLINE V times_at(const A &a, V x, int64_t t) {
    return a.at(t) * x;
}
HYENA_INLINE V times_at(const Nothing &, V x, int64_t) { return x; }
template <class A>
HYENA_INLINE float times_one(const A &a, float x, int64_t t) {
    return a.one_at(t) * x;
}
HYENA_INLINE float times_one(const Nothing &, float x, int64_t) { return x; }

// The row a_t b_t of some length, and zeros beyond it, as a root pass reads it.
template <class A, class B>
struct Product {
    static constexpr bool AT_ROOT = A::AT_ROOT && B::AT_ROOT;
    A a;
    B b;
    int64_t length, first, last;  // whole vectors lie in [first, last)

    Product(const A &a_, const B &b_, int64_t length_)
        : a(a_), b(b_), length(length_), first(a.first() > b.first() ? a.first() : b.first()),
          last(a.last() < b.last() ? a.last() : b.last()) {
        if (last > length) last = length;
    }
    HYENA_INLINE V at(int64_t t) const {
        if (t >= first && t + W <= last) return product_at(a, b, t);
        return t < length ? at_end(*this, t) : broadcast(0);  // half of a padded row lies beyond
    }
    static HYENA_APART V at_end(const Product p, int64_t t) {
        float lanes[W] = {};
        for (int i = 0; i < W && t + i < p.length; ++i) lanes[i] = product_one(p.a, p.b, t + i);
        return load(lanes);
    }
};

// to_t <- a_t times what a root pass puts there; past the caches where the row is aligned and that
// is wanted. Of a null row nothing.
template <class T, class A>
struct Times {
    static constexpr bool AT_ROOT = A::AT_ROOT && !std::is_same_v<T, Float16>;
    T *to;
    A a;
    int64_t length, first, last;
    bool past_caches;

    Times(T *to_, const A &a_, int64_t length_, bool past)
        : to(to_), a(a_), length(to ? length_ : 0), first(a.first()),
          last(a.last() < length ? a.last() : length), past_caches(past && aligned(to)) {}
    HYENA_INLINE void put(int64_t t, V x) const {
        if (t >= first && t + W <= last) {
            if (past_caches)
                ::put<true>(to + t, times_at(a, x, t));
            else
                ::put<false>(to + t, times_at(a, x, t));
        } else if (t < length) {
            put_end(*this, t, x);
        }
    }
    static HYENA_APART void put_end(const Times p, int64_t t, V x) {
        float lanes[W];
        store(lanes, x);
        for (int i = 0; i < W && t + i < p.length; ++i)
            put_one(p.to + t + i, times_one(p.a, lanes[i], t + i));
    }
};
// Two of them of one row.
template <class A, class B>
struct Both {
    static constexpr bool AT_ROOT = A::AT_ROOT && B::AT_ROOT;
    A a;
    B b;

    Both(const A &a_, const B &b_) : a(a_), b(b_) {}
    HYENA_INLINE void put(int64_t t, V x) const { a.put(t, x), b.put(t, x); }
};

// to[t - begin] <- a_t b_t for t in [begin, end), all within the row.
template <class T, class A, class B>
void product(T *to, const A a, const B b, int64_t begin, int64_t end) {
    int64_t first = a.first() > b.first() ? a.first() : b.first();
    int64_t last = a.last() < b.last() ? a.last() : b.last();
    if (first < begin) first = begin;
    if (last > end) last = end;
    int64_t t = begin;
    for (; t < first && t < end; ++t) put_one(to + (t - begin), product_one(a, b, t));
    for (; t + W <= last; t += W) put_many(to + (t - begin), product_at(a, b, t));
    for (; t < end; ++t) put_one(to + (t - begin), product_one(a, b, t));
}

// Sums that the gradient of a short convolution takes over all rows of a channel.
constexpr int MOST_TAPS = HYENA_MOST_SHORT_TAPS;
struct TapSums {
    double taps[MOST_TAPS];
    double bias;

    void operator+=(const TapSums &more) {
        for (int j = 0; j < MOST_TAPS; ++j) taps[j] += more.taps[j];
        bias += more.bias;
    }
};

// The sum of terms over [begin, end): add(t, sum) adds those of a vector, one(t) is that of a
// position. In several sums at once, since a long chain of additions rounds more, and waits.
template <class Add, class One>
HYENA_INLINE double sum_over(int64_t begin, int64_t end, const Add &add, const One &one) {
    constexpr int SUMS = 4;
    V part[SUMS] = {};
    float rest = 0;
    int64_t t = begin;
    for (; t + SUMS * W <= end; t += SUMS * W)
        for (int i = 0; i < SUMS; ++i) part[i] = add(t + i * W, part[i]);
    for (; t + W <= end; t += W) part[0] = add(t, part[0]);
    for (; t < end; ++t) rest += one(t);
    return double(sum((part[0] + part[1]) + (part[2] + part[3]))) + rest;
}

constexpr int64_t PIECE = 1024;  // positions whose gradients are at hand at once
constexpr int64_t LONGEST_PIECE = PIECE + 2 * MOST_TAPS;  // and those of its neighbours

// The gradient dz of a row z from that of its short convolution's output, dx_t = a_t b_t, and the
// sums over the row of dx_t and of dx_t z_(t - lag).
template <bool STREAM = false, class T, int J, class A, class B>
void source_gradient(
    T *dz, const Source<T, J> z, const A a, const B b, TapSums *sums, float *piece) {
    const int64_t length = z.length;
    if constexpr (J == 0) {
        if (dz) product(dz, a, b, 0, length);
        return;
    }
    const int count = J > 0 ? J : z.count;
    for (int64_t begin = 0; begin < length; begin += PIECE) {
        const int64_t end = begin + PIECE < length ? begin + PIECE : length;
        // dz_t needs dx from t - lead to t + reach.
        const int64_t from = begin - z.lead, to = end + z.reach();
        const int64_t low = from > 0 ? from : 0, high = to < length ? to : length;
        for (int64_t t = from; t < low; ++t) piece[t - from] = 0;
        if (high > low) product(piece + (low - from), a, b, low, high);
        for (int64_t t = high > low ? high : low; t < to; ++t) piece[t - from] = 0;
        const float *dx = piece + z.lead - begin;  // dx[t] is position t's
        if (dz) {
            int64_t t = begin;
            for (; t + W <= end; t += W) {
                V g = V{};
                for (int j = 0; j < count; ++j)
                    g = fma(broadcast(z.taps[j]), load(dx + t + j - z.lead), g);
                put<STREAM>(dz + t, g);
            }
            for (; t < end; ++t) {
                float g = 0;
                for (int j = 0; j < count; ++j) g += z.taps[j] * dx[t + j - z.lead];
                put_one(dz + t, g);
            }
        }
        if (!sums) continue;
        sums->bias += sum_over(
            begin, end, [&](int64_t t, V total) { return total + load(dx + t); },
            [&](int64_t t) { return dx[t]; });
        for (int j = 0; j < count; ++j) {
            const int64_t lag = j - z.lead;
            int64_t s = begin, stop = end;  // z_(t - lag) must exist
            if (lag > 0 && s < lag) s = lag;
            if (lag < 0 && stop > length + lag) stop = length + lag;
            sums->taps[j] += sum_over(
                s, stop, [&](int64_t t, V dot) { return fma(load(dx + t), z.raw(t - lag), dot); },
                [&](int64_t t) { return dx[t] * z.raw_one(t - lag); });
        }
    }
}

template <class T, int J>
HYENA_INLINE Source<T, J> source_of(
    const Input &input, const hyena_row &row, int64_t channel, int count, int lead) {
    Source<T, J> s{};
    s.x = static_cast<const T *>(input.data) + row.batch * input.batch_stride +
          channel * input.channel_stride + row.start;
    s.length = row.length;
    s.count = count, s.lead = lead;
    if (J != 0) s.taps = input.taps + channel * count;
    s.bias = J != 0 && input.bias ? input.bias[channel] : 0.0f;
    s.offset = input.offset ? input.offset[channel] : 0.0f;
    s.constant = s.bias;
    if (J != 0 && input.offset)  // not 0 times a tap, which may be infinite
        for (int j = 0; j < count; ++j) s.constant += s.taps[j] * s.offset;
    return s;
}

template <class T>
Source<T, 0> output_gradient(const Conv &conv, const hyena_row &row, int64_t d) {
    const Input dy{conv.y, conv.y_batch_stride, conv.y_channel_stride, nullptr, nullptr, nullptr};
    return source_of<T, 0>(dy, row, d, 0, 0);
}

template <class T, int J, class A, class B>
void input_gradient(
    const Gradient &to, const Input &input, const hyena_row &row, int64_t d, const Conv &conv,
    const A &a, const B &b, TapSums &sums, float *piece, bool past_caches) {
    if (!to.wanted()) return;
    T *dz = row_of<T>(to, row, d);
    const auto z = source_of<T, J>(input, row, d, conv.short_taps, conv.short_lead);
    TapSums *wanted = to.taps || to.bias ? &sums : nullptr;
    if (dz && past_caches && aligned(dz))
        source_gradient<true>(dz, z, a, b, wanted, piece);
    else
        source_gradient(dz, z, a, b, wanted, piece);
}

void write_sums(const Gradient &to, int64_t d, int count, const TapSums &sums) {
    if (to.taps)
        for (int j = 0; j < count; ++j) to.taps[d * count + j] = float(sums.taps[j]);
    if (to.bias) to.bias[d] = float(sums.bias);
}

}  // namespace
