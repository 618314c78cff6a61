// Work shared out over PyTorch's threads.
#pragma once
#include <atomic>

#include "builds.h"
#include "hyena_kernel.h"
#include "plan.h"

namespace {

using UnitWork = void (*)(const void *call, int64_t index, float *memory);

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

constexpr int64_t LEAST_WORK = 16384;  // positions that are worth a thread

int64_t grain_of(int64_t positions) {
    return positions > 0 && positions < LEAST_WORK ? (LEAST_WORK + positions - 1) / positions : 1;
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
