// One vector of W floats for each build, and the few operations that the transform needs.
//
// Everything is in an unnamed namespace: the builds are compiled with different instruction sets
// and must not share a single inline function.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(HYENA_ISA_AVX512) || defined(HYENA_ISA_AVX2)
#include <immintrin.h>
#endif

#if defined(_MSC_VER)
#define HYENA_INLINE __forceinline
#define HYENA_APART __declspec(noinline)
#define HYENA_PREFETCH(p) ((void)(p))
#else
#define HYENA_INLINE inline __attribute__((always_inline))
#define HYENA_APART __attribute__((noinline))  // seldom run, and kept out of loops
#define HYENA_PREFETCH(p) __builtin_prefetch(p, 0, 2)
#endif

namespace {

#if defined(HYENA_ISA_AVX512)

constexpr int W = 16;
constexpr int WIDEST_RADIX = 8;  // 16 of 32 registers hold data
constexpr bool FUSED = true;     // a multiply-add is one instruction
struct V {
    __m512 v;
};
HYENA_INLINE V load(const float *p) { return {_mm512_loadu_ps(p)}; }
HYENA_INLINE void store(float *p, V a) { _mm512_storeu_ps(p, a.v); }
HYENA_INLINE V broadcast(float a) { return {_mm512_set1_ps(a)}; }
HYENA_INLINE V operator+(V a, V b) { return {_mm512_add_ps(a.v, b.v)}; }
HYENA_INLINE V operator-(V a, V b) { return {_mm512_sub_ps(a.v, b.v)}; }
HYENA_INLINE V operator*(V a, V b) { return {_mm512_mul_ps(a.v, b.v)}; }
HYENA_INLINE V fma(V a, V b, V c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }    // ab + c
HYENA_INLINE V fms(V a, V b, V c) { return {_mm512_fmsub_ps(a.v, b.v, c.v)}; }    // ab - c
HYENA_INLINE V fnma(V a, V b, V c) { return {_mm512_fnmadd_ps(a.v, b.v, c.v)}; }  // c - ab

// Transposes 4 x 4 floats within each group of four lanes.
HYENA_INLINE void transpose4(V &a, V &b, V &c, V &d) {
    __m512d t0 = _mm512_castps_pd(_mm512_unpacklo_ps(a.v, b.v));
    __m512d t1 = _mm512_castps_pd(_mm512_unpackhi_ps(a.v, b.v));
    __m512d t2 = _mm512_castps_pd(_mm512_unpacklo_ps(c.v, d.v));
    __m512d t3 = _mm512_castps_pd(_mm512_unpackhi_ps(c.v, d.v));
    a.v = _mm512_castpd_ps(_mm512_unpacklo_pd(t0, t2));
    b.v = _mm512_castpd_ps(_mm512_unpackhi_pd(t0, t2));
    c.v = _mm512_castpd_ps(_mm512_unpacklo_pd(t1, t3));
    d.v = _mm512_castpd_ps(_mm512_unpackhi_pd(t1, t3));
}

// Transposes the W/4 x W/4 groups of four lanes of W/4 vectors.
HYENA_INLINE void exchange_groups(V *x) {
    __m512 t0 = _mm512_shuffle_f32x4(x[0].v, x[1].v, 0x44);
    __m512 t1 = _mm512_shuffle_f32x4(x[0].v, x[1].v, 0xEE);
    __m512 t2 = _mm512_shuffle_f32x4(x[2].v, x[3].v, 0x44);
    __m512 t3 = _mm512_shuffle_f32x4(x[2].v, x[3].v, 0xEE);
    x[0].v = _mm512_shuffle_f32x4(t0, t2, 0x88);
    x[1].v = _mm512_shuffle_f32x4(t0, t2, 0xDD);
    x[2].v = _mm512_shuffle_f32x4(t1, t3, 0x88);
    x[3].v = _mm512_shuffle_f32x4(t1, t3, 0xDD);
}

HYENA_INLINE V load_bfloat16(const uint16_t *p) {
    __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(p));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16))};
}
HYENA_INLINE V load_float16(const uint16_t *p) {
    return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(p)))};
}
HYENA_INLINE void store_bfloat16(uint16_t *p, V a) {  // to nearest even; a NaN stays one
    __m512i bits = _mm512_castps_si512(a.v);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i round = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF));
    __mmask16 nan = _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q);
    __m512i sum = _mm512_mask_or_epi32(
        _mm512_add_epi32(bits, round), nan, bits, _mm512_set1_epi32(0x400000));
    __m256i half = _mm512_cvtepi32_epi16(_mm512_srli_epi32(sum, 16));
    _mm256_storeu_si256(reinterpret_cast<__m256i *>(p), half);
}
HYENA_INLINE void store_float16(uint16_t *p, V a) {
    _mm256_storeu_si256(reinterpret_cast<__m256i *>(p), _mm512_cvtps_ph(a.v, 0));
}

#elif defined(HYENA_ISA_AVX2)

constexpr int W = 8;
constexpr int WIDEST_RADIX = 4;  // 8 of 16 registers hold data
constexpr bool FUSED = true;
struct V {
    __m256 v;
};
HYENA_INLINE V load(const float *p) { return {_mm256_loadu_ps(p)}; }
HYENA_INLINE void store(float *p, V a) { _mm256_storeu_ps(p, a.v); }
HYENA_INLINE V broadcast(float a) { return {_mm256_set1_ps(a)}; }
HYENA_INLINE V operator+(V a, V b) { return {_mm256_add_ps(a.v, b.v)}; }
HYENA_INLINE V operator-(V a, V b) { return {_mm256_sub_ps(a.v, b.v)}; }
HYENA_INLINE V operator*(V a, V b) { return {_mm256_mul_ps(a.v, b.v)}; }
HYENA_INLINE V fma(V a, V b, V c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
HYENA_INLINE V fms(V a, V b, V c) { return {_mm256_fmsub_ps(a.v, b.v, c.v)}; }
HYENA_INLINE V fnma(V a, V b, V c) { return {_mm256_fnmadd_ps(a.v, b.v, c.v)}; }

HYENA_INLINE void transpose4(V &a, V &b, V &c, V &d) {
    __m256d t0 = _mm256_castps_pd(_mm256_unpacklo_ps(a.v, b.v));
    __m256d t1 = _mm256_castps_pd(_mm256_unpackhi_ps(a.v, b.v));
    __m256d t2 = _mm256_castps_pd(_mm256_unpacklo_ps(c.v, d.v));
    __m256d t3 = _mm256_castps_pd(_mm256_unpackhi_ps(c.v, d.v));
    a.v = _mm256_castpd_ps(_mm256_unpacklo_pd(t0, t2));
    b.v = _mm256_castpd_ps(_mm256_unpackhi_pd(t0, t2));
    c.v = _mm256_castpd_ps(_mm256_unpacklo_pd(t1, t3));
    d.v = _mm256_castpd_ps(_mm256_unpackhi_pd(t1, t3));
}
HYENA_INLINE void exchange_groups(V *x) {
    __m256 low = _mm256_permute2f128_ps(x[0].v, x[1].v, 0x20);
    x[1].v = _mm256_permute2f128_ps(x[0].v, x[1].v, 0x31);
    x[0].v = low;
}

HYENA_INLINE V load_bfloat16(const uint16_t *p) {
    __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i *>(p));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16))};
}
HYENA_INLINE V load_float16(const uint16_t *p) {
    return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(p)))};
}
HYENA_INLINE void store_bfloat16(uint16_t *p, V a) {
    __m256i bits = _mm256_castps_si256(a.v);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i sum = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF)));
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(a.v, a.v, _CMP_UNORD_Q));
    __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    sum = _mm256_srli_epi32(_mm256_blendv_epi8(sum, quiet, nan), 16);
    __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(sum, sum), 0x08);
    _mm_storeu_si128(reinterpret_cast<__m128i *>(p), _mm256_castsi256_si128(packed));
}
HYENA_INLINE void store_float16(uint16_t *p, V a) {
    _mm_storeu_si128(reinterpret_cast<__m128i *>(p), _mm256_cvtps_ph(a.v, 0));
}

#else  // Any processor. Four lanes are SSE on x86-64 and NEON on Arm.

constexpr int W = 4;
#if defined(__GNUC__) && defined(__aarch64__)
constexpr int WIDEST_RADIX = 8;
constexpr bool FUSED = true;
#else
constexpr int WIDEST_RADIX = 4;
constexpr bool FUSED = false;
#endif
#if defined(__GNUC__)
typedef float Four __attribute__((vector_size(16)));
struct V {
    Four v;
};
HYENA_INLINE V load(const float *p) {
    V a;
    memcpy(&a.v, p, sizeof a.v);
    return a;
}
HYENA_INLINE void store(float *p, V a) { memcpy(p, &a.v, sizeof a.v); }
HYENA_INLINE V broadcast(float a) { return {Four{a, a, a, a}}; }
HYENA_INLINE V operator+(V a, V b) { return {a.v + b.v}; }
HYENA_INLINE V operator-(V a, V b) { return {a.v - b.v}; }
HYENA_INLINE V operator*(V a, V b) { return {a.v * b.v}; }
#else
struct V {
    float v[4];
};
HYENA_INLINE V load(const float *p) { return {{p[0], p[1], p[2], p[3]}}; }
HYENA_INLINE void store(float *p, V a) { memcpy(p, a.v, sizeof a.v); }
HYENA_INLINE V broadcast(float a) { return {{a, a, a, a}}; }
HYENA_INLINE V operator+(V a, V b) {
    return {{a.v[0] + b.v[0], a.v[1] + b.v[1], a.v[2] + b.v[2], a.v[3] + b.v[3]}};
}
HYENA_INLINE V operator-(V a, V b) {
    return {{a.v[0] - b.v[0], a.v[1] - b.v[1], a.v[2] - b.v[2], a.v[3] - b.v[3]}};
}
HYENA_INLINE V operator*(V a, V b) {
    return {{a.v[0] * b.v[0], a.v[1] * b.v[1], a.v[2] * b.v[2], a.v[3] * b.v[3]}};
}
#endif
HYENA_INLINE V fma(V a, V b, V c) { return a * b + c; }
HYENA_INLINE V fms(V a, V b, V c) { return a * b - c; }
HYENA_INLINE V fnma(V a, V b, V c) { return c - a * b; }
HYENA_INLINE void transpose4(V &a, V &b, V &c, V &d) {
    V p{}, q{}, r{}, s{};
    for (int i = 0; i < 4; ++i) {
        V &out = i == 0 ? p : i == 1 ? q : i == 2 ? r : s;
        out.v[0] = a.v[i];
        out.v[1] = b.v[i];
        out.v[2] = c.v[i];
        out.v[3] = d.v[i];
    }
    a = p, b = q, c = r, d = s;
}
HYENA_INLINE void exchange_groups(V *) {}

#endif

constexpr int GROUPS = W / 4;

HYENA_INLINE float sum(V a) {
    float lanes[W], total = 0;
    store(lanes, a);
    for (int i = 0; i < W; ++i) total += lanes[i];
    return total;
}

// Sixteen-bit floats, one at a time: the ends of rows, and everything in the portable build.
HYENA_INLINE float float_of_bits(uint32_t bits) {
    float a;
    memcpy(&a, &bits, sizeof a);
    return a;
}
HYENA_INLINE uint32_t bits_of_float(float a) {
    uint32_t bits;
    memcpy(&bits, &a, sizeof bits);
    return bits;
}
HYENA_INLINE float from_bfloat16(uint16_t h) { return float_of_bits(uint32_t(h) << 16); }
HYENA_INLINE uint16_t to_bfloat16(float a) {
    uint32_t bits = bits_of_float(a);
    if (a != a) return uint16_t((bits | 0x400000) >> 16);
    return uint16_t((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}
HYENA_INLINE float from_float16(uint16_t h) {
    uint32_t sign = uint32_t(h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 1023;
    if (exponent == 31) return float_of_bits(sign | 0x7F800000 | mantissa << 13);
    if (exponent != 0) return float_of_bits(sign | (exponent + 112) << 23 | mantissa << 13);
    float small = float(mantissa) * float_of_bits(0x33800000);  // 2^-24
    return sign ? -small : small;
}
HYENA_INLINE uint16_t to_float16(float a) {  // to nearest even
    uint32_t bits = bits_of_float(a), sign = bits >> 16 & 0x8000;
    bits &= 0x7FFFFFFF;
    if (bits > 0x7F800000) return uint16_t(sign | 0x7E00 | (bits >> 13 & 0x3FF));
    if (bits >= 0x477FF000) return uint16_t(sign | 0x7C00);  // rounds to infinity
    if (bits < 0x38800000) {  // below 2^-14: let the addition of 1/2 round
        uint32_t rounded = bits_of_float(float_of_bits(bits) + 0.5f);
        return uint16_t(sign | (rounded - 0x3F000000));
    }
    return uint16_t(sign | (bits - 0x38000000 + 0xFFF + (bits >> 13 & 1)) >> 13);
}

// Loads and stores of a row whose numbers are of type T, float in registers.
struct Bfloat16 {
    uint16_t bits;
};
struct Float16 {
    uint16_t bits;
};
HYENA_INLINE float one(const float *p) { return *p; }
HYENA_INLINE float one(const Bfloat16 *p) { return from_bfloat16(p->bits); }
HYENA_INLINE float one(const Float16 *p) { return from_float16(p->bits); }
HYENA_INLINE void put_one(float *p, float a) { *p = a; }
HYENA_INLINE void put_one(Bfloat16 *p, float a) { p->bits = to_bfloat16(a); }
HYENA_INLINE void put_one(Float16 *p, float a) { p->bits = to_float16(a); }
HYENA_INLINE V many(const float *p) { return load(p); }
HYENA_INLINE void put_many(float *p, V a) { store(p, a); }
#if defined(HYENA_ISA_AVX512) || defined(HYENA_ISA_AVX2)
HYENA_INLINE V many(const Bfloat16 *p) { return load_bfloat16(&p->bits); }
HYENA_INLINE V many(const Float16 *p) { return load_float16(&p->bits); }
HYENA_INLINE void put_many(Bfloat16 *p, V a) { store_bfloat16(&p->bits, a); }
HYENA_INLINE void put_many(Float16 *p, V a) { store_float16(&p->bits, a); }
// Past the caches, for output that is too large to stay there: it need not be read to be written.
// The address is a multiple of a vector's size; `fence` comes before another thread reads.
#if defined(HYENA_ISA_AVX512)
HYENA_INLINE void stream(float *p, V a) { _mm512_stream_ps(p, a.v); }
#else
HYENA_INLINE void stream(float *p, V a) { _mm256_stream_ps(p, a.v); }
#endif
HYENA_INLINE void fence() { _mm_sfence(); }
#else
HYENA_INLINE void stream(float *p, V a) { store(p, a); }
HYENA_INLINE void fence() {}
template <class T>
HYENA_INLINE V many(const T *p) {
    float lanes[W];
    for (int i = 0; i < W; ++i) lanes[i] = one(p + i);
    return load(lanes);
}
template <class T>
HYENA_INLINE void put_many(T *p, V a) {
    float lanes[W];
    store(lanes, a);
    for (int i = 0; i < W; ++i) put_one(p + i, lanes[i]);
}
#endif

// put_many, or stream for a float.
template <bool STREAM, class T>
HYENA_INLINE void put(T *p, V a) {
    put_many(p, a);
}
template <>
HYENA_INLINE void put<true, float>(float *p, V a) {
    stream(p, a);
}
HYENA_INLINE bool aligned(const void *p) { return uintptr_t(p) % (W * sizeof(float)) == 0; }

// While one lives, its thread takes numbers below the normal ones for zeros. What dies away would come
// to be such a number for good, and each costs a hundred cycles wherever it is read.
#if defined(HYENA_ISA_AVX512) || defined(HYENA_ISA_AVX2)
class NoTinyNumbers {
    const unsigned before = _mm_getcsr();

public:
    NoTinyNumbers() { _mm_setcsr(before | 0x8040); }
    NoTinyNumbers(const NoTinyNumbers &) = delete;
    NoTinyNumbers &operator=(const NoTinyNumbers &) = delete;
    ~NoTinyNumbers() { _mm_setcsr(before); }
};
#else
struct NoTinyNumbers {
    NoTinyNumbers() {}
};
#endif

}  // namespace
