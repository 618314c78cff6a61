// Convolutions with sums of exponentials and their gates, forward and backward: `modes.h` row by row.
#pragma once
#include "direct.h"
#include "modes.h"

namespace {

// States (n, P) as they are handed over <-> planes.
template <int P>
void take_state(float *x, const float *state, const Powers<P> &powers) {
    std::fill(x, x + powers.row, 0.0f);
    for (int64_t s = 0; state && s < powers.modes; ++s)
        for (int p = 0; p < P; ++p) x[p * powers.plane + s] = state[s * P + p];
}
template <int P>
void give_state(float *state, const float *x, const Powers<P> &powers) {
    for (int64_t s = 0; s < powers.modes; ++s)
        for (int p = 0; p < P; ++p) state[s * P + p] = x[p * powers.plane + s];
}

// Sums over all chunks and rows of a channel, in float64: of W lags, and of each mode, times two.
struct ModalSums {
    double *lags, *along, *below;  // (W), (n, P), (n, P)
};

struct ModalCall {
    const Conv *conv;
    const hyena_modes *modes;
    const Gradients *to;
    const hyena_modes_gradients *of_modes;
    double *sums = nullptr;  // of every channel
    int64_t longest = 0;
    bool past_caches;

    ModalCall(
        const Conv &c, const hyena_modes &m, const Gradients *gradients,
        const hyena_modes_gradients *gradients_of_modes)
        : conv(&c), modes(&m), to(gradients), of_modes(gradients_of_modes) {
        for (int64_t r = 0; r < c.rows; ++r) longest = std::max(longest, c.row[r].length);
        const int64_t written = positions_of(c.row, c.rows) * c.channels * size_of(c.dtype);
        past_caches = (to ? c.parts * written : written) > LARGEST_CACHED;
    }
    int64_t sizes() const { return modes->count * modes->parts; }  // of a state
    int64_t channel(int64_t d) const { return d * sizes(); }
    int64_t state(int64_t row, int64_t d) const { return (row * conv->channels + d) * sizes(); }
    int64_t blocks(int64_t length) const { return (length + SPAN - 1) / SPAN; }
    int64_t row_floats() const { return blocks(longest) * SPAN; }
    int64_t sums_of_channel() const { return W + 2 * sizes(); }
    ModalSums of(int64_t d) const {
        double *own = sums + d * sums_of_channel();
        return {own, own + W, own + W + sizes()};
    }
    // Threads share out channels, each of which is summed in one order.
    int64_t grain() const {
        return grain_of(positions_of(conv->row, conv->rows) * (1 + sizes() / W));
    }
};

template <int P>
struct ModalRoom {
    Powers<P> powers;
    float *u;              // a block of inputs, laid out
    float *y;              // a block of outputs
    float *x;              // the state
    float *sums, *states;  // of a block's chunks

    ModalRoom(Room &room, const ModalCall &call)
        : powers(room, call.modes->count, call.to != nullptr), u(laid_out(room)),
          y(room.take(SPAN)), x(room.take(powers.row)), sums(chunks(room)), states(chunks(room)) {}

    // With zeros before the first chunk, and behind each.
    static float *laid_out(Room &room) {
        float *memory = room.take(LAID_OUT);
        if (!memory) return nullptr;
        std::fill(memory, memory + LAID_OUT, 0.0f);
        return memory + W;
    }
    float *chunks(Room &room) const { return room.take(CHUNKS * powers.row); }

    // The block that `u` holds: x goes behind it, `states` are those before its chunks.
    void step() const {
        weigh_all<P, false>(powers, powers.left, u, sums);
        follow<P, false>(powers, sums, x, states);
    }
};

// x after some positions of a block, not all of them, from the states before its chunks.
template <int P>
void state_within(const ModalRoom<P> &own, int64_t positions) {
    const Powers<P> &powers = own.powers;
    const int64_t chunk = positions / W, rest = positions % W;
    const float *u = own.u + chunk * APART, *before = own.states + chunk * powers.row;
    if (rest == 0) {
        std::copy(before, before + powers.row, own.x);
        return;
    }
    for (int64_t s = 0; s < powers.modes; ++s) {
        // a^i for i < rest, and for i = rest, which is smaller than W.
        const auto power = [&](int64_t i) {
            const float *a = powers.left + (W - 1 - i) * powers.row + s;
            return Number{a[0], P == 2 ? a[powers.plane] : 0.0};
        };
        const float *re = before + s;
        Number x = power(rest) * Number{re[0], P == 2 ? re[powers.plane] : 0.0};
        for (int64_t i = 0; i < rest; ++i) x = x + double(u[i]) * power(rest - 1 - i);
        own.x[s] = float(x.re);
        if (P == 2) own.x[powers.plane + s] = float(x.im);
    }
}

template <class T, int J, int P>
void modal_work(const void *given, int64_t d, float *memory) {
    const ModalCall &call = *static_cast<const ModalCall *>(given);
    const Conv &conv = *call.conv;
    Room room{memory};
    const NoTinyNumbers during_this;
    const ModalRoom<P> own(room, call);
    const Powers<P> &powers = own.powers;
    powers.fill(conv, *call.modes, d);
    for (int64_t r = 0; r < conv.rows; ++r) {
        const hyena_row &row = conv.row[r];
        const auto source = [&](const Input &input) {
            return source_of<T, J>(input, row, d, conv.short_taps, conv.short_lead);
        };
        const auto convolve_row = [&](const auto &from, const auto &to) {
            for (int64_t t = 0; t < row.length; t += SPAN) {
                spread(own.u, from, t);
                own.step();
                respond<P, false>(powers, own.u, own.states, own.y);
                put_block(to, own.y, t);
                if (row.length - t < SPAN) state_within(own, row.length - t);
            }
        };
        take_state(own.x, further(call.modes->state, call.state(r, d)), powers);
        T *y = row_of_y<T>(conv, row, d);
        if (conv.post.data)
            convolve_row(
                Product(source(conv.value), source(conv.pre), row.length),
                Times(y, source(conv.post), row.length, call.past_caches));
        else
            convolve_row(
                Product(source(conv.value), Nothing{}, row.length),
                Times(y, Nothing{}, row.length, call.past_caches));
        if (call.modes->state_after)
            give_state(call.modes->state_after + call.state(r, d), own.x, powers);
    }
}

template <int P>
struct ModalBackwardRoom : ModalRoom<P> {
    float *row, *s, *du;   // of a whole row: its input, its output before the gate, a gradient
    float *piece;
    float *marks;          // the states before the blocks of a row
    float *g, *q;          // a block of gradients, laid out; and the state from behind
    float *back, *behind;  // as sums and states are, from behind
    float *counted_u, *counted_g;
    float *lags;           // (W, W): sums of each lag, in the lanes of a vector
    float *along, *below;  // (row): sums of X Q and so on, and of X R

    ModalBackwardRoom(Room &room, const ModalCall &call)
        : ModalRoom<P>(room, call), row(room.take(call.row_floats())),
          s(room.take(call.row_floats())), du(room.take(call.row_floats())),
          piece(room.take(LONGEST_PIECE)), marks(state(room, call.blocks(call.longest))),
          g(this->laid_out(room)), q(state(room)), back(this->chunks(room)),
          behind(this->chunks(room)), counted_u(this->chunks(room)),
          counted_g(this->chunks(room)), lags(room.take(W * W)), along(state(room)),
          below(state(room)) {}

    float *state(Room &room, int64_t count = 1) const {
        return room.take(count * this->powers.row);
    }
    void clear_sums() const {
        std::fill(lags, lags + W * W, 0.0f);
        std::fill(along, along + this->powers.row, 0.0f);
        std::fill(below, below + this->powers.row, 0.0f);
    }
    // Adds what is there to the sums in float64.
    void flush(const ModalSums &to) const {
        for (int m = 0; m < W; ++m) to.lags[m] += double(sum_of(lags + m * W, W));
        for (int64_t mode = 0; mode < this->powers.modes; ++mode) {
            for (int p = 0; p < P; ++p) {
                to.along[mode * P + p] += double(along[p * this->powers.plane + mode]);
                to.below[mode * P + p] += double(below[p * this->powers.plane + mode]);
            }
        }
        clear_sums();
    }
};

// A block's part in the sums. X: state before a chunk, Q: the one behind it; U, R: what the chunk's
// inputs leave behind it, and its gradients before it; U', R': the same, each power times its exponent.
template <int P>
HYENA_APART void add_block(const ModalBackwardRoom<P> &own) {
    const Powers<P> &powers = own.powers;
    const int64_t plane = powers.plane, row = powers.row;
    weigh_all<P, false>(powers, powers.counted, own.u, own.counted_u);
    weigh_all<P, true>(powers, powers.counted, own.g, own.counted_g);
    for (int m = 0; m < W; ++m) {
        V sum = load(own.lags + m * W);
        for (int c = 0; c < CHUNKS; ++c)
            sum = fma(load(own.g + c * APART), load(own.u + c * APART - m), sum);
        store(own.lags + m * W, sum);
    }
    const V width = broadcast(float(W));
    for (int64_t v = 0; v < plane; v += W) {
        C step = load_modes<P>(powers.step + v, plane);  // W a^W
        step = {width * step.re, width * step.im};
        C along = load_modes<P>(own.along + v, plane);
        C below = load_modes<P>(own.below + v, plane);
        for (int c = 0; c < CHUNKS; ++c) {
            const auto of = [&](const float *chunks) {
                return load_modes<P>(chunks + c * row + v, plane);
            };
            const C x = of(own.states), q = of(own.behind), r = of(own.back);
            const C u_counted = of(own.counted_u), r_counted = of(own.counted_g) + r;
            along = multiply_add<P>(q, multiply_add<P>(step, x, u_counted), along);
            along = multiply_add<P>(x, r_counted, along);
            below = multiply_add<P>(x, r, below);
        }
        store_modes<P>(own.along + v, plane, along);
        store_modes<P>(own.below + v, plane, below);
    }
}

// The conjugate of a gradient of mode s, where it goes; null if it is not wanted.
template <int P, class Real>
void put_gradient(Real *modes, int64_t s, Number gradient) {
    if (!modes) return;
    modes[s * P] = Real(gradient.re);
    if (P == 2) modes[s * P + P - 1] = Real(-gradient.im);
}

// Those of weights and decays, from the sums: docs/kernel.md has the formulas.
template <int P>
void put_sums(const ModalCall &call, const ModalSums &sums, int64_t d) {
    const double *log_decay = call.modes->log_decay + call.channel(d);
    const float *weight = call.modes->weight + call.channel(d);
    if (call.to->skip) call.to->skip[d] = float(sums.lags[0]);
    for (int64_t s = 0; s < call.modes->count; ++s) {
        const Number a = decay_of<P>(log_decay, s);
        const auto sum = [&](const double *of) {
            return Number{of[s * P], P == 2 ? of[s * P + P - 1] : 0.0};
        };
        Number of_weight = a * sum(sums.below), of_decay = a * sum(sums.along), power = {1, 0};
        for (int m = 0; m < W; ++m, power = power * a) {
            of_weight = of_weight + sums.lags[m] * power;
            of_decay = of_decay + m * sums.lags[m] * power;
        }
        of_decay = mode_of<P>(weight, s) * of_decay;
        put_gradient<P>(further(call.of_modes->weight, call.channel(d)), s, of_weight);
        put_gradient<P>(further(call.of_modes->log_decay, call.channel(d)), s, of_decay);
    }
}

template <class T, int J, int P>
void modal_backward_work(const void *given, int64_t d, float *memory) {
    const ModalCall &call = *static_cast<const ModalCall *>(given);
    const Conv &conv = *call.conv;
    const Gradients &to = *call.to;
    const hyena_modes_gradients &of_modes = *call.of_modes;
    Room room{memory};
    const NoTinyNumbers during_this;
    const ModalBackwardRoom<P> own(room, call);
    const Powers<P> &powers = own.powers;
    const ModalSums sums = call.of(d);
    const bool want_modes = of_modes.log_decay || of_modes.weight || to.skip;
    const bool want_post = conv.post.data && to.post.wanted(), want_du = wants_input<J>(to);
    TapSums short_sums[3] = {};
    powers.fill(conv, *call.modes, d);
    own.clear_sums();
    for (int64_t r = 0; r < conv.rows; ++r) {
        const hyena_row &row = conv.row[r];
        const int64_t length = row.length, blocks = call.blocks(length);
        const auto source = [&](const Input &input) {
            return source_of<T, J>(input, row, d, conv.short_taps, conv.short_lead);
        };
        if (conv.pre.data)
            product(own.row, source(conv.value), source(conv.pre), 0, length);
        else
            product(own.row, source(conv.value), Nothing{}, 0, length);
        const Product u(plain(own.row, length), Nothing{}, length);
        take_state(own.x, further(call.modes->state, call.state(r, d)), powers);
        for (int64_t block = 0; (want_modes || want_post) && block < blocks; ++block) {
            std::copy(own.x, own.x + powers.row, own.marks + block * powers.row);
            if (!want_post && block + 1 == blocks) break;
            spread(own.u, u, block * SPAN);
            own.step();
            if (want_post) respond<P, false>(powers, own.u, own.states, own.s + block * SPAN);
        }
        const auto from_behind = [&](const auto &g) {
            std::fill(own.q, own.q + powers.row, 0.0f);
            for (int64_t block = blocks - 1; block >= 0; --block) {
                spread(own.g, g, block * SPAN);
                weigh_all<P, true>(powers, powers.left, own.g, own.back);
                follow<P, true>(powers, own.back, own.q, own.behind);
                if (want_du) respond<P, true>(powers, own.g, own.behind, own.du + block * SPAN);
                if (!want_modes) continue;
                const float *mark = own.marks + block * powers.row;
                std::copy(mark, mark + powers.row, own.x);
                spread(own.u, u, block * SPAN);
                own.step();
                add_block(own);
                if (block % SUMMED_BLOCKS == 0) own.flush(sums);
            }
        };
        const auto dy = output_gradient<T>(conv, row, d);
        if (conv.post.data)
            from_behind(Product(source(conv.post), dy, length));
        else
            from_behind(Product(dy, Nothing{}, length));
        for (int64_t s = 0; of_modes.state && s < powers.modes; ++s) {  // conj(a w q), q of t = 0
            const Number q = {own.q[s], P == 2 ? own.q[powers.row - powers.plane + s] : 0.0};
            const Number a = decay_of<P>(call.modes->log_decay + call.channel(d), s);
            const Number w = mode_of<P>(call.modes->weight + call.channel(d), s);
            put_gradient<P>(of_modes.state + call.state(r, d), s, a * w * q);
        }
        put_input_gradients<T, J>(
            conv, to, row, d, want_post ? own.s : nullptr, want_du ? own.du : nullptr, short_sums,
            own.piece, call.past_caches);
    }
    if (want_modes) put_sums<P>(call, sums, d);
    write_all_sums(conv, to, d, short_sums);
}

#define HYENA_CHOOSE_REAL(function, T, taps) \
    (taps == 0 ? function<T, 0, 1> : taps == 3 ? function<T, 3, 1> : function<T, -1, 1>)
#define HYENA_CHOOSE_COMPLEX(function, T, taps) \
    (taps == 0 ? function<T, 0, 2> : taps == 3 ? function<T, 3, 2> : function<T, -1, 2>)
// The instance of a template over dtype, short taps and parts of a mode.
#define HYENA_CHOOSE_MODES(choose, function, dtype, taps)       \
    (dtype == HYENA_FLOAT32    ? choose(function, float, taps)    \
     : dtype == HYENA_BFLOAT16 ? choose(function, Bfloat16, taps) \
                               : choose(function, Float16, taps))

int32_t kernel_modal(const hyena_conv *given, const hyena_modes *modes) {
    const Conv conv(*given);
    const ModalCall call(conv, *modes, nullptr, nullptr);
    const bool real = modes->parts == 1;
    const UnitWork work =
        real ? HYENA_CHOOSE_MODES(HYENA_CHOOSE_REAL, modal_work, conv.dtype, conv.short_taps)
             : HYENA_CHOOSE_MODES(HYENA_CHOOSE_COMPLEX, modal_work, conv.dtype, conv.short_taps);
    const int64_t floats = real ? floats_of<ModalRoom<1>>(call) : floats_of<ModalRoom<2>>(call);
    return run(work, &call, conv.channels, floats, call.grain());
}

int32_t kernel_modal_backward(
    const hyena_conv *given, const hyena_gradients *gradients, const hyena_modes *modes,
    const hyena_modes_gradients *of_modes) {
    const Conv conv(*given);
    const Gradients to(*gradients, conv);
    ModalCall call(conv, *modes, &to, of_modes);
    const Shared<double> sums(conv.channels * call.sums_of_channel());
    if (sums.failed) return 1;
    call.sums = sums.data;
    const bool real = modes->parts == 1;
    const UnitWork work =
        real ? HYENA_CHOOSE_MODES(
                   HYENA_CHOOSE_REAL, modal_backward_work, conv.dtype, conv.short_taps)
             : HYENA_CHOOSE_MODES(
                   HYENA_CHOOSE_COMPLEX, modal_backward_work, conv.dtype, conv.short_taps);
    const int64_t floats =
        real ? floats_of<ModalBackwardRoom<1>>(call) : floats_of<ModalBackwardRoom<2>>(call);
    return run(work, &call, conv.channels, floats, call.grain());
}

}  // namespace
