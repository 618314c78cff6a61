// The builds of kernel.cpp in this library. CMake defines HYENA_HAS_... where it compiles one.
#pragma once
#include "hyena_kernel.h"

extern "C" {
const hyena_kernel *hyena_kernel_portable(void);
const hyena_kernel *hyena_kernel_avx2(void);
const hyena_kernel *hyena_kernel_avx512(void);

// Set by hyena_kernel_set_threads; null: one thread.
extern hyena_parallel_for hyena_parallel;
extern hyena_thread_count hyena_threads;
}
