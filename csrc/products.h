// What the transform is for: the products with a filter's spectrum, and what memory is fetched
// meanwhile.
#pragma once
#include "butterflies.h"

namespace {

// What memory will be needed soon: what the next row is read from, and what this one is written to.
// The leaves compute for long and load little, so that is where it is fetched, a few lines at a time,
// since a processor waits for few at once.
class Ahead {
    struct Stream {
        const char *memory;
        int64_t bytes;  // of each position
    };
    static constexpr int MOST = 9;  // in a backward pass: three parts, y and k, both ways but for y
    Stream stream[MOST];
    int streams = 0;
    int64_t positions;

public:
    // Fetches the same positions of all streams, in turns.
    struct Fetch {
        const Ahead &ahead;
        int64_t position, end;
        int stream, lines;  // the next one, and how many lines a turn
        HYENA_INLINE void some() {
            for (int i = 0; i < lines && position < end; ++i) {
                const Stream &s = ahead.stream[stream];
                HYENA_PREFETCH(s.memory + position * s.bytes);
                if (++stream == ahead.streams) stream = 0, position += LINE;
            }
        }
    };
    static constexpr int64_t LINE = 16;  // positions of float in one

    explicit Ahead(int64_t length) : positions(length) {}
    template <class T>
    void add(const T *memory) {
        if (memory && streams < MOST) stream[streams++] = {reinterpret_cast<const char *>(memory), sizeof(T)};
    }
    HYENA_INLINE Fetch fetch(int64_t position, int64_t count, int turns) const {
        const bool none = streams == 0 || position + count > positions;
        const int lines = (int(count / LINE) * streams + turns - 1) / turns;
        return {*this, position, none ? position : position + count, 0, lines};
    }
};
struct Nowhere {
    HYENA_INLINE void some() const {}
};

// What is done with the spectrum of a leaf, four complex vectors at a time. `at` is their place in
// a spectrum, in floats.

struct Keep {  // the transform itself
    static constexpr int DOWN = 1, UP = 0;
    float *spectrum;
    HYENA_INLINE Nowhere fetch(int64_t, int64_t, int) const { return {}; }
    HYENA_INLINE void apply(C (*x)[4], int64_t at, int count) const {
        for (int a = 0; a < count; ++a) store_complex(spectrum + at + a * 2 * W, x[0][a]);
    }
};
struct Recall {  // the inverse transform of a spectrum
    static constexpr int DOWN = 0, UP = 1;
    const float *spectrum;
    HYENA_INLINE Nowhere fetch(int64_t, int64_t, int) const { return {}; }
    HYENA_INLINE void apply(C (*x)[4], int64_t at, int count) const {
        for (int a = 0; a < count; ++a) x[0][a] = load_complex(spectrum + at + a * 2 * W);
    }
};
struct Filter {  // the convolution with a filter of this spectrum
    static constexpr int DOWN = 1, UP = 1;
    const float *filter;
    const Ahead &ahead;
    HYENA_INLINE Ahead::Fetch fetch(int64_t position, int64_t count, int turns) const {
        const float *next = filter + 2 * (position + count);
        for (int64_t i = 0; i < 2 * count; i += Ahead::LINE) HYENA_PREFETCH(next + i);
        return ahead.fetch(position, count, turns);
    }
    HYENA_INLINE void apply(C (*x)[4], int64_t at, int count) const {
        for (int a = 0; a < count; ++a)
            x[0][a] = x[0][a] * load_complex(filter + at + a * 2 * W);
    }
};
struct FilterOnce {  // the convolution with a filter that is transformed beside it
    static constexpr int DOWN = 2, UP = 1;
    const Ahead &ahead;
    HYENA_INLINE Ahead::Fetch fetch(int64_t position, int64_t count, int turns) const {
        return ahead.fetch(position, count, turns);
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
    HYENA_INLINE Ahead::Fetch fetch(int64_t position, int64_t count, int turns) const {
        return ahead.fetch(position, count, turns);
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
    HYENA_INLINE Ahead::Fetch fetch(int64_t position, int64_t count, int turns) const {
        return ahead.fetch(position, count, turns);
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
