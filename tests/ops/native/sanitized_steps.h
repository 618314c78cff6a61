// What `sanitized.cpp` checks of steps of generation: one position of an operator, and linear layers
// on a few rows. Included by it, after its numbers of the three kinds.
#pragma once

namespace {

// One position of an operator, in memory that ends where it must not be passed.
void check_step(const hyena_kernel &kernel, int64_t B, int64_t D, int N, int J, int64_t rest) {
    std::mt19937 random{uint32_t(D)};
    std::normal_distribution<float> normal;
    const auto draw = [&](int64_t size) {
        std::vector<float> numbers(size_t(size), 0.0f);
        for (float &number : numbers) number = normal(random);
        return numbers;
    };
    const int64_t C = (N + 1) * D;
    const std::vector<float> z = draw(B * C), taps = draw(J * C), bias = draw(C);
    std::vector<std::vector<float>> before, inputs, due, near;
    std::vector<const float *> earlier;
    std::vector<hyena_online> conv;
    for (int j = 1; j < J; ++j) {
        before.push_back(draw(B * C));
        earlier.push_back(before.back().data());
    }
    for (int i = 0; i < N - 1; ++i) {
        inputs.push_back(draw(B * D));
        due.push_back(draw(rest * B * D));
        near.push_back(draw(rest * D));
        conv.push_back({inputs[size_t(i)].data(), due[size_t(i)].data(), near[size_t(i)].data()});
    }
    const std::vector<std::vector<float>> known = due;
    std::vector<float> y(size_t(B * D), NAN);
    const hyena_step step = {B,           D,           N,    J,     z.data(), earlier.data(), taps.data(),
                             bias.data(), conv.data(), rest, B * D, y.data()};
    if (kernel.step(&step) != 0) ++failures;
    for (int64_t b = 0; b < B; ++b)
        for (int64_t d = 0; d < D; ++d) {
            const auto after_short = [&](int64_t c) {
                double x = bias[size_t(c)] + double(taps[size_t(c)]) * z[size_t(b * C + c)];
                for (int j = 1; j < J; ++j)
                    x += double(taps[size_t(j * C + c)]) * before[size_t(j - 1)][size_t(b * C + c)];
                return x;
            };
            double v = after_short(N * D + d);
            for (int i = 0; i < N - 1; ++i) {
                v *= after_short((N - 1 - i) * D + d);
                v = known[size_t(i)][size_t(b * D + d)] + near[size_t(i)][size_t(d)] * v;
            }
            v *= after_short(d);
            if (!(std::abs(y[size_t(b * D + d)] - v) <= 1e-4 * (1 + std::abs(v)))) ++failures;
        }
}

// Numbers of one kind, in memory that ends with the last of them.
struct Numbers {
    int dtype;
    std::vector<uint8_t> memory;

    Numbers(int type, int64_t count) : dtype(type), memory(size_t(count * BYTES[type]), 0xFF) {}
    void draw_all() {
        for (size_t i = 0; i < memory.size(); i += size_t(BYTES[dtype]))
            put(dtype, memory.data() + i, draw());
    }
    double operator[](int64_t i) const { return get(dtype, memory.data() + i * BYTES[dtype]); }
};

void check_linear(
    const hyena_kernel &kernel, int64_t B, int64_t I, int64_t O, int dtype, int x_dtype,
    int y_dtype, bool beside) {
    Numbers x(x_dtype, B * I), weight(dtype, O * I), bias(dtype, O), y(y_dtype, B * O);
    x.draw_all(), weight.draw_all(), bias.draw_all();
    const hyena_linear linear = {B,
                                 I,
                                 O,
                                 dtype,
                                 x_dtype,
                                 y_dtype,
                                 x.memory.data(),
                                 weight.memory.data(),
                                 beside ? bias.memory.data() : nullptr,
                                 y.memory.data()};
    if (kernel.linear(&linear) != 0) ++failures;
    const double allowed[] = {1e-5, 8e-3, 1e-3};
    for (int64_t b = 0; b < B; ++b)
        for (int64_t o = 0; o < O; ++o) {
            double sum = beside ? bias[o] : 0, size = std::abs(sum);
            for (int64_t i = 0; i < I; ++i) {
                const double product = x[b * I + i] * weight[o * I + i];
                sum += product, size += std::abs(product);
            }
            if (!(std::abs(y[b * O + o] - sum) <= allowed[y_dtype] * (1 + size))) ++failures;
        }
}

void check_linears(const hyena_kernel &kernel) {
    int next = 0;
    for (int64_t B : {1, 2, 3, 4, 5, 8})
        for (int64_t I : {1, 4, 7, 16, 33, 200})
            for (int64_t O : {1, 3, 4, 6, 41, 400}) {
                check_linear(kernel, B, I, O, next % 3, next / 3 % 3, next / 9 % 3, next % 4);
                ++next;
            }
}

// Two blocks, the mixer of the first an operator of order 2 without short taps before, of the second
// given. The numbers are for the tests in Python: here it is what is read and written.
void check_block(const hyena_kernel &kernel, int64_t B, int64_t D, int64_t H, int dtype, int mixed) {
    const auto drawn_of = [](int type, int64_t count) {
        Numbers numbers(type, count);
        numbers.draw_all();
        return numbers;
    };
    const int wide = HYENA_FLOAT32;
    Numbers x = drawn_of(wide, B * D), of_mixer = drawn_of(mixed, B * D);
    const Numbers weight = drawn_of(dtype, D), bias = drawn_of(dtype, D);
    const Numbers up = drawn_of(dtype, H * D), up_bias = drawn_of(dtype, H);
    const Numbers down = drawn_of(dtype, D * H), down_bias = drawn_of(dtype, D);
    const Numbers in = drawn_of(dtype, 3 * D * D), out = drawn_of(dtype, D * D);
    const std::vector<float> taps = drawn(3 * D), short_bias = drawn(3 * D), near = drawn(D);
    std::vector<float> z(size_t(3 * B * D), NAN), y(size_t(B * D), NAN), input = y, due = drawn(B * D);
    const hyena_online conv = {input.data(), due.data(), near.data()};
    const hyena_linear first = {B,    D,       3 * D, dtype, wide, wide, nullptr, in.memory.data(),
                                nullptr, z.data()};
    const hyena_linear last = {B,    D,       D, dtype, wide, wide, y.data(), out.memory.data(),
                               nullptr, nullptr};
    hyena_step step{};
    step.batch = B, step.channels = D, step.order = 2, step.short_taps = 1;
    step.z = z.data(), step.taps = taps.data(), step.bias = short_bias.data();
    step.conv = &conv, step.rest = 1, step.row_stride = B * D, step.y = y.data();
    step.in_proj = &first, step.out_proj = &last;
    const hyena_norm norm = {weight.memory.data(), bias.memory.data(), 1e-5};
    hyena_block blocks[2] = {};
    for (hyena_block &block : blocks) {
        block.batch = B, block.width = D, block.hidden = H, block.dtype = dtype;
        block.before_mixer = block.before_mlp = norm;
        block.up_weight = up.memory.data(), block.up_bias = up_bias.memory.data();
        block.down_weight = down.memory.data(), block.down_bias = down_bias.memory.data();
    }
    blocks[0].step = &step;
    blocks[1].mixed = of_mixer.memory.data(), blocks[1].mixed_dtype = mixed;
    if (kernel.blocks(blocks, 2, reinterpret_cast<float *>(x.memory.data())) != 0) ++failures;
    for (int64_t i = 0; i < B * D; ++i)
        if (!std::isfinite(x[i])) ++failures;
}

void check_blocks(const hyena_kernel &kernel) {
    int next = 0;
    for (int64_t B : {1, 3, 8})
        for (int64_t D : {1, 16, 33, 200})
            for (int64_t H : {1, 70, 512}) {
                check_block(kernel, B, D, H, next % 3, next / 3 % 3);
                ++next;
            }
}

}  // namespace
