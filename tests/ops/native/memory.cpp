// Memory that runs out, and how much of it the portable build asks for. test_kernel_memory.py
// compiles this with the compiler's check of threads.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <thread>

#define workspace kept_workspace
#include "plan.cpp"
#undef workspace

static bool no_new = false, no_workspace = false;
static std::atomic<int64_t> asked_for{0};

void *operator new(std::size_t bytes) {
    void *memory = no_new ? nullptr : std::malloc(bytes);
    if (!memory) throw std::bad_alloc();
    return memory;
}
void operator delete(void *memory) noexcept { std::free(memory); }
void operator delete(void *memory, std::size_t) noexcept { std::free(memory); }

float *workspace(int64_t floats) {
    asked_for = std::max(asked_for.load(), floats);
    return no_workspace ? nullptr : kept_workspace(floats);
}

#define HYENA_ISA_PORTABLE
#include "kernel.cpp"

// In place of PyTorch's: two threads.
static int32_t two_threads(int64_t begin, int64_t end, int64_t, hyena_task task, void *context) {
    const int64_t middle = (begin + end) / 2;
    std::thread first([=] { task(begin, middle, context); });
    task(middle, end, context);
    first.join();
    return 0;
}
static int32_t count_of_two(uint32_t *count) {
    *count = 2;
    return 0;
}
extern "C" {
hyena_parallel_for hyena_parallel = two_threads;
hyena_thread_count hyena_threads = count_of_two;
}

static int failures = 0;

static void check(bool right, const char *what) {
    if (right) return;
    std::printf("%s\n", what);
    ++failures;
}

static std::vector<float> numbers(int64_t count) { return std::vector<float>(size_t(count), 0.5f); }

// Rows of 4096 positions, a size of its own, and channels enough for two threads.
struct Example {
    static constexpr int64_t D = 16, L = 4096;
    std::vector<float> x, y, k, dx, dk, spectrum;
    std::vector<hyena_row> rows;
    hyena_conv conv{};
    hyena_gradients to{};

    explicit Example(int64_t batch)
        : x(numbers(batch * D * L)), y(x), k(numbers(D * L)), dx(x), dk(k),
          spectrum(numbers(D * 2 * L)) {
        for (int64_t b = 0; b < batch; ++b) rows.push_back({b, 0, L});
        conv.channels = D, conv.rows = batch, conv.row = rows.data(), conv.n = L;
        conv.parts = 1, conv.z = x.data();
        conv.z_batch_stride = conv.y_batch_stride = D * L;
        conv.z_channel_stride = conv.y_channel_stride = L;
        conv.k = k.data(), conv.k_stride = L, conv.taps = L;
        conv.y = y.data();
        to.z = dx.data(), to.z_batch_stride = D * L, to.z_channel_stride = L;
        to.k = dk.data();
    }
};

// Of the scratch that was asked for since the last time.
static double bytes_a_position() {
    const double floats = double(asked_for);
    asked_for = 0;
    return 4.0 * floats / Example::L;
}

int main() {
    const hyena_kernel *kernel = hyena_kernel_portable();

    no_new = true;
    check(kernel->size(1000) == -2, "a size without memory");
    check(!plan_of(1024, false, W, WIDEST_RADIX), "a plan without memory");
    no_new = false;
    check(kernel->size(1000) >= 1000, "a size with memory again");
    check(plan_of(1024, false, W, WIDEST_RADIX), "a plan with memory again");
    check(kernel->size(int64_t(1) << 40) == -1, "a size that there is not");

    Example one(1), batch(3);
    no_workspace = true;
    check(kernel->forward(&one.conv) == 1, "forward without memory");
    check(kernel->backward(&one.conv, &one.to) == 1, "backward without memory");
    check(kernel->spectrum(&one.conv, one.spectrum.data()) == 1, "spectrum without memory");
    no_workspace = false;

    // Bytes a position of a row, as docs/kernel.md says them, and little beside them.
    const auto takes = [](double bytes, const char *what) {
        const double found = bytes_a_position();
        if (found >= bytes && found < bytes + 2) return;
        std::printf("%s: %.1f bytes a position, not %.0f\n", what, found, bytes);
        ++failures;
    };
    asked_for = 0;
    check(kernel->forward(&one.conv) == 0, "forward");
    takes(20, "forward");
    check(kernel->forward(&batch.conv) == 0, "forward of a batch");
    takes(20, "forward of a batch");
    check(kernel->backward(&one.conv, &one.to) == 0, "backward");
    takes(32, "backward");
    check(kernel->backward(&batch.conv, &batch.to) == 0, "backward of a batch");
    takes(48, "backward of a batch");
    check(kernel->spectrum(&one.conv, one.spectrum.data()) == 0, "spectrum");
    takes(12, "spectrum");
    one.conv.spectrum = one.spectrum.data();
    check(kernel->forward(&one.conv) == 0, "forward with the spectrum");
    takes(12, "forward with the spectrum");

    std::printf("%d failures\n", failures);
    return failures != 0;
}
