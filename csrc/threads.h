// Work shared out over PyTorch's threads.
#pragma once
#include <atomic>
#include <cstdlib>

#include "builds.h"
#include "hyena_kernel.h"
#include "plan.h"
#include "vector.h"

namespace {

using UnitWork = void (*)(const void *call, int64_t index, float *memory);

// Memory of a thread, handed out piece by piece; without memory, the count of it.
struct Room {
    float *memory;
    int64_t floats = 0;

    float *take(int64_t count) {
        float *piece = memory ? memory + floats : nullptr;
        floats += count;
        return piece;
    }
};

// How many floats a `Kind` of memory takes.
template <class Kind, class... Arguments>
int64_t floats_of(const Arguments &...arguments) {
    Room room{};
    Kind(room, arguments...);
    return room.floats;
}

struct Task {
    UnitWork work;
    const void *call;
    int64_t floats;
    std::atomic<int> failed;
};

void run_task(int64_t begin, int64_t end, void *context) {
    Task &task = *static_cast<Task *>(context);
    float *memory = workspace(task.floats);
    if (!memory) {
        task.failed = 1;
        return;
    }
    for (int64_t i = begin; i < end; ++i) task.work(task.call, i, memory);
    fence();
}

// Runs work over units, at least `grain` of them a thread; 1 if a thread had no memory.
int32_t run(UnitWork work, const void *call, int64_t units, int64_t floats, int64_t grain) {
    Task task{work, call, floats, {0}};
    if (hyena_parallel && units > grain) {
        if (hyena_parallel(0, units, grain, run_task, &task) != 0) return 1;
    } else {
        run_task(0, units, &task);
    }
    return task.failed;
}

// How many threads a call may run on.
int64_t threads() {
    uint32_t count = 1;
    return hyena_parallel && hyena_threads && hyena_threads(&count) == 0 ? int64_t(count) : 1;
}

// Memory that the threads of a call have in common: zeros, 64-byte aligned.
template <class T>
struct Shared {
    T *data = nullptr;
    bool failed = false;

    explicit Shared(int64_t count) {
        if (count == 0) return;
        memory = std::calloc(1, size_t(count) * sizeof(T) + 64);
        failed = !memory;
        data = reinterpret_cast<T *>((reinterpret_cast<uintptr_t>(memory) + 63) & ~uintptr_t(63));
    }
    Shared(const Shared &) = delete;
    Shared &operator=(const Shared &) = delete;
    ~Shared() { std::free(memory); }

private:
    void *memory = nullptr;
};

constexpr int64_t LEAST_WORK = 16384;  // positions that are worth a thread

int64_t grain_of(int64_t positions) {
    return positions > 0 && positions < LEAST_WORK ? (LEAST_WORK + positions - 1) / positions : 1;
}

// Consecutive items, such as rows.
struct Share {
    int64_t begin, end;
    int64_t count() const { return end - begin; }
};
// The part-th of `parts` nearly equal shares of `count` items.
Share share_of(int64_t count, int64_t part, int64_t parts) {
    return {count * part / parts, count * (part + 1) / parts};
}

// Work for so many threads is worth the price of cutting the rows of a unit, if units are few.
constexpr int64_t MOST_TASKS = 32;

// How many groups the rows fall into. Each is summed by itself, so that threads can share them out
// while their number changes no bit.
int64_t groups_of(int64_t units, int64_t rows, int64_t positions) {
    if (units >= MOST_TASKS || rows < 2 || units * rows * positions < 2 * LEAST_WORK) return 1;
    const int64_t groups = (MOST_TASKS + units - 1) / units;
    return groups < rows ? groups : rows;
}

// How many parts the groups are cut into, each the work of one thread. A part transforms its unit's
// filter again, which is taken to cost half of what a row does.
int64_t parts_of(int64_t units, int64_t rows, int64_t groups) {
    const int64_t count = groups == 1 ? 1 : threads();
    int64_t best = 1, least = INT64_MAX;
    for (int64_t parts = 1; parts <= groups && parts <= count; ++parts) {
        const int64_t tasks = (units * parts + count - 1) / count;  // of a thread
        const int64_t cost = tasks * (2 * ((rows + parts - 1) / parts) + 1);
        if (cost < least) best = parts, least = cost;
    }
    return best;
}

int64_t positions_of(const hyena_row *row, int64_t rows) {
    int64_t total = 0;
    for (int64_t r = 0; r < rows; ++r) total += row[r].length;
    return total;
}

// The instance of a template over dtype and short taps.
#define HYENA_CHOOSE(function, dtype, taps)                              \
    (dtype == HYENA_FLOAT32    ? HYENA_CHOOSE_TAPS(function, float, taps) \
     : dtype == HYENA_BFLOAT16 ? HYENA_CHOOSE_TAPS(function, Bfloat16, taps) \
                               : HYENA_CHOOSE_TAPS(function, Float16, taps))
#define HYENA_CHOOSE_TAPS(function, T, taps) \
    (taps == 0 ? function<T, 0> : taps == 3 ? function<T, 3> : function<T, -1>)

}  // namespace
