// The choice between the builds of the kernel. This file is compiled for the oldest processor of the
// platform: nothing here may use an instruction that has not been asked for.
#include "builds.h"

#include <cstring>

#if defined(HYENA_HAS_AVX2) || defined(HYENA_HAS_AVX512)
#if defined(_MSC_VER)
#include <immintrin.h>
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#endif

extern "C" {
hyena_parallel_for hyena_parallel = nullptr;
hyena_thread_count hyena_threads = nullptr;
}

namespace {

struct Support {
    bool avx2 = false, avx512 = false;
};

#if defined(HYENA_HAS_AVX2) || defined(HYENA_HAS_AVX512)
struct Registers {
    uint32_t a, b, c, d;
};

Registers cpuid(uint32_t leaf) {
#if defined(_MSC_VER)
    int values[4];
    __cpuidex(values, static_cast<int>(leaf), 0);
    return {static_cast<uint32_t>(values[0]), static_cast<uint32_t>(values[1]),
            static_cast<uint32_t>(values[2]), static_cast<uint32_t>(values[3])};
#else
    Registers r;
    __cpuid_count(leaf, 0, r.a, r.b, r.c, r.d);
    return r;
#endif
}

// Which registers the operating system saves when it changes threads.
uint64_t saved_registers() {
#if defined(_MSC_VER)
    return _xgetbv(0);
#else
    // The instruction itself: the intrinsic would need -mxsave.
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (static_cast<uint64_t>(high) << 32) | low;
#endif
}

constexpr bool all(uint64_t value, uint64_t mask) { return (value & mask) == mask; }

Support detect() {
    constexpr uint32_t fma = 1u << 12, osxsave = 1u << 27, avx = 1u << 28, f16c = 1u << 29;
    constexpr uint32_t avx2 = 1u << 5;
    constexpr uint32_t avx512 = 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31;  // f dq cd bw vl
    constexpr uint64_t ymm = 0x6, zmm = 0xe6;  // with xmm; with the mask registers, too

    Support here;
    if (cpuid(0).a < 7) return here;
    const uint32_t first = cpuid(1).c;
    if (!all(first, osxsave)) return here;  // xgetbv would not be a valid instruction
    const uint64_t saved = saved_registers();
    const uint32_t seventh = cpuid(7).b;
    here.avx2 = all(first, fma | avx | f16c) && all(seventh, avx2) && all(saved, ymm);
#if defined(__APPLE__)
    // macOS turns these registers on at their first use, and only then reports them.
    here.avx512 = here.avx2 && all(seventh, avx512);
#else
    here.avx512 = here.avx2 && all(seventh, avx512) && all(saved, zmm);
#endif
    return here;
}
#else
Support detect() { return {}; }
#endif

struct Build {
    const char *isa;
    const hyena_kernel *(*kernel)(void);
};

// What can run here, best first.
struct Builds {
    Build build[3];
    int count = 0;
    char names[32] = "";

    Builds() {
        [[maybe_unused]] const Support here = detect();
#if defined(HYENA_HAS_AVX512)
        if (here.avx512) add({"avx512", hyena_kernel_avx512});
#endif
#if defined(HYENA_HAS_AVX2)
        if (here.avx2) add({"avx2", hyena_kernel_avx2});
#endif
        add({"portable", hyena_kernel_portable});
    }

    void add(Build next) {
        if (count > 0) std::strcat(names, " ");
        std::strcat(names, next.isa);
        build[count++] = next;
    }
};

const Builds &builds() {
    static const Builds all_of_them;
    return all_of_them;
}

}  // namespace

extern "C" {

int32_t hyena_kernel_abi(void) { return HYENA_KERNEL_ABI; }

const char *hyena_kernel_isas(void) { return builds().names; }

const hyena_kernel *hyena_kernel_of(const char *isa) {
    for (int i = 0; i < builds().count; ++i) {
        if (std::strcmp(builds().build[i].isa, isa) == 0) return builds().build[i].kernel();
    }
    return nullptr;
}

void hyena_kernel_set_threads(hyena_parallel_for run, hyena_thread_count count) {
    hyena_parallel = run;
    hyena_threads = count;
}
}
