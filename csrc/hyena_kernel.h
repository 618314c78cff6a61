// The C interface of the native convolution kernel.
//
// Sizes: B batch, D channels, L length, K taps of the long filter, J taps of the short one, n size
// of the transform. All strides are in elements; along the length every array is contiguous.
#pragma once
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Changes whenever a struct or a signature below does.
#define HYENA_KERNEL_ABI 11

enum { HYENA_FLOAT32 = 0, HYENA_BFLOAT16 = 1, HYENA_FLOAT16 = 2 };

// Most taps of the short convolution before gates, and of a convolution in the time domain.
#define HYENA_MOST_SHORT_TAPS 64
#define HYENA_MOST_DIRECT_TAPS 128

// Positions start ... start + length - 1 of a batch entry: convolved on their own.
typedef struct {
    int64_t batch, start, length;
} hyena_row;

// y = post * (k conv (pre * value) + skip * (pre * value)), where the parts of the input, post, pre and
// value, lie one after the other in the channels of z, and have passed their short convolution; or
// value is all of it. Without a spectrum and k, y is the short convolution of value.
typedef struct {
    int64_t channels, rows;  // channels: D, of each part
    const hyena_row *row;    // all of them no longer than n
    int64_t n;               // a size that hyena_kernel.size returned
    int32_t dtype, parts;    // dtype: of z, y and their gradients; parts: P, 3 or 1
    const void *z;           // (B, P D, L)
    int64_t z_batch_stride, z_channel_stride;
    const float *offset;      // (P D), added to z before its short convolution; or null
    const float *short_k;     // (P D, J), tap j has lag j - short_lead; null: no short convolution
    const float *short_bias;  // (P D), or null
    int32_t short_taps, short_lead;  // short_taps: J, 0 without a short convolution
    // The filter: its spectrum, or its taps (D, K), tap j of lag j - lead, and the skip (D) or null.
    const float *spectrum;  // what hyena_kernel.spectrum wrote
    const float *k;
    int64_t k_stride, taps, lead;
    const float *skip;
    // Output of the forward pass, or the gradient of it that the backward pass is given. Output may
    // take the place of value, and of nothing else: a row of value is read before y is written.
    void *y;
    int64_t y_batch_stride, y_channel_stride;
} hyena_conv;

// Gradients that the backward pass writes; null where one is not wanted. Those of k, skip and the
// short filters are sums over the rows of the call, and contiguous.
typedef struct {
    void *z;  // (B, P D, L)
    int64_t z_batch_stride, z_channel_stride;
    float *k, *skip;
    float *short_k, *short_bias;
} hyena_gradients;

// A filter h_j = Re sum over its modes of weight exp(j log_decay) in place of k, and what a state adds
// to the outputs: x_t = exp(log_decay) x_(t - 1) + u_t, of which h reads Re sum of weight x_t. Modes are
// real numbers, or complex ones, each its real part and its imaginary one. Logarithms are of double
// precision: an angle that is off by 1e-7 at each position is off by 1e-3 after 10^4 of them. All of
// it is contiguous.
typedef struct {
    int64_t count;            // n
    int32_t parts;            // of a mode: 1 or 2
    const double *log_decay;  // (D, n, parts)
    const float *weight;      // the same
    const float *state;       // (rows, D, n, parts), x before each row; null: zeros
    float *state_after;       // x after each row, or null; the forward pass writes it
} hyena_modes;

// Its gradients, of y alone; null where one is not wanted.
typedef struct {
    double *log_decay;
    float *weight, *state;
} hyena_modes_gradients;

// y = x weight' + bias for a few vectors x, summed in float32. All of it is contiguous.
typedef struct {
    int64_t batch, inputs, outputs;   // B, I, O
    int32_t dtype, x_dtype, y_dtype;  // of weight and bias; of x; of y
    const void *x;                    // (B, I)
    const void *weight, *bias;        // (O, I), and (O) or null
    void *y;                          // (B, O)
} hyena_linear;

// A long convolution whose input comes position by position. Rows of its memory are (B, D).
typedef struct {
    float *input;       // where the input of this position goes: a row
    float *due;         // what is known of the outputs of this and later positions: rows
    const float *taps;  // (rest, D), those of lag 0 first and with the skip
    // Or, if x is given, a recurrence: x <- decay x + u, y = weight . x + skip u. Complex numbers are
    // in two planes, all real parts and all imaginary ones.
    float *x;                      // (2, modes) rows
    const float *decay, *weight;  // (2, modes, D)
    const float *skip;            // (D)
    int64_t modes;
} hyena_online;

// One more position of an operator of order N, in float32: its short convolution, gates and N - 1
// long convolutions. A call writes to their memory and to y.
typedef struct {
    int64_t batch, channels;     // B, D
    int32_t order, short_taps;   // N, J
    const float *z;              // (B, (N + 1) D): the gates, the last used first, and the value
    const float *const *before;  // J - 1 earlier z, the latest first
    const float *taps, *bias;    // (J, (N + 1) D) and ((N + 1) D)
    const hyena_online *conv;    // N - 1, in the order of their use
    int64_t rest;                // rows of due: positions from here to the end of the block
    int64_t row_stride;          // between the rows of due
    float *y;                    // (B, D)
    const hyena_linear *in_proj, *out_proj;  // what writes z first, and what reads y last; or null
} hyena_step;

// y = weight (x - mean) / sqrt(variance + epsilon) + bias, over the D numbers of a vector.
typedef struct {
    const void *weight, *bias;  // (D)
    double epsilon;
} hyena_norm;

// A block of a model at one more position, x <- x + mixer(norm(x)), then x <- x + down(gelu(up(norm(x))))
// with the GELU of tanh, for a few vectors x in float32. All of it is contiguous.
typedef struct {
    int64_t batch, width, hidden;         // B, D, H
    int32_t dtype, mixed_dtype;           // of the norms and the MLP; of mixed
    hyena_norm before_mixer, before_mlp;
    const hyena_step *step;               // the mixer; what its projections read first and write last
                                          // is not looked at
    const void *mixed;                    // or what it made, (B, D), and before_mixer is not needed
    const void *up_weight, *up_bias;      // (H, D), and (H) or null
    const void *down_weight, *down_bias;  // (D, H), and (D) or null
} hyena_block;

// The functions of one build. All may be called from several threads at once. Those that return an
// int32_t return 0, or 1 if memory ran out.
typedef struct {
    const char *isa;
    // The smallest size of a transform that holds `length` positions; -1 if there is none, -2 if
    // memory ran out.
    int64_t (*size)(int64_t length);
    // How many floats the spectra of D filters take at size n.
    int64_t (*spectrum_floats)(int64_t channels, int64_t n);
    // Spectra of the filters of `conv`, for use as conv->spectrum in calls with this build and n.
    int32_t (*spectrum)(const hyena_conv *conv, float *spectrum);
    int32_t (*forward)(const hyena_conv *conv);
    int32_t (*backward)(const hyena_conv *conv, const hyena_gradients *gradients);
    // The same with modes, without spectrum, k and n; y does not take the place of value.
    int32_t (*modal)(const hyena_conv *conv, const hyena_modes *modes);
    int32_t (*modal_backward)(
        const hyena_conv *conv, const hyena_gradients *gradients, const hyena_modes *modes,
        const hyena_modes_gradients *of_modes);
    int32_t (*step)(const hyena_step *step);
    int32_t (*linear)(const hyena_linear *linear);
    // Takes x (B, D) through so many blocks, one after the other.
    int32_t (*blocks)(const hyena_block *block, int64_t count, float *x);
    // For benchmarks, what the processor can do at best: butterflies in registers, `rounds` of them
    // down and up again in each of `tasks`. Returns the number of additions and multiplications.
    int64_t (*butterflies)(int64_t tasks, int64_t rounds);
} hyena_kernel;

typedef void (*hyena_task)(int64_t begin, int64_t end, void *context);
// Runs task over [begin, end) in pieces of at least grain, on several threads. PyTorch's
// torch_parallel_for, or null for one thread.
typedef int32_t (*hyena_parallel_for)(
    int64_t begin, int64_t end, int64_t grain, hyena_task task, void *context);
// How many threads it runs on: PyTorch's torch_get_num_threads.
typedef int32_t (*hyena_thread_count)(uint32_t *count);

#if defined(_WIN32)
#define HYENA_EXPORT __declspec(dllexport)
#else
#define HYENA_EXPORT __attribute__((visibility("default")))
#endif

HYENA_EXPORT int32_t hyena_kernel_abi(void);
// The builds in this library that this processor can run, best first, separated by spaces.
HYENA_EXPORT const char *hyena_kernel_isas(void);
// One of them by name; null if it is unknown or cannot run here.
HYENA_EXPORT const hyena_kernel *hyena_kernel_of(const char *isa);
// Both or none.
HYENA_EXPORT void hyena_kernel_set_threads(hyena_parallel_for run, hyena_thread_count count);

#ifdef __cplusplus
}
#endif
