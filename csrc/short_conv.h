// The short convolution by itself, forward and backward.
#pragma once
#include "rows.h"
#include "threads.h"

namespace {

struct ShortCall {
    const hyena_short *conv;
    const hyena_gradient *gradient;
};

template <class T, int J>
void short_forward_work(const void *call, int64_t d, float *) {
    const hyena_short &conv = *static_cast<const ShortCall *>(call)->conv;
    for (int64_t r = 0; r < conv.rows; ++r) {
        const hyena_row &row = conv.row[r];
        T *y = static_cast<T *>(conv.y) + row.batch * conv.y_batch_stride +
               d * conv.y_channel_stride + row.start;
        const auto x = source_of<T, J>(conv.x, row, d, conv.short_taps, conv.short_lead);
        product(y, x, Nothing{}, 0, row.length);
    }
}
template <class T, int J>
void short_backward_work(const void *call, int64_t d, float *memory) {
    const hyena_short &conv = *static_cast<const ShortCall *>(call)->conv;
    const hyena_gradient &to = *static_cast<const ShortCall *>(call)->gradient;
    TapSums sums{};
    for (int64_t r = 0; r < conv.rows; ++r) {
        const hyena_row &row = conv.row[r];
        const hyena_input dy{
                conv.y, conv.y_batch_stride, conv.y_channel_stride, nullptr, nullptr, nullptr};
        T *dz = static_cast<T *>(to.data);
        if (dz) dz += row.batch * to.batch_stride + d * to.channel_stride + row.start;
        source_gradient(
            dz, source_of<T, J>(conv.x, row, d, conv.short_taps, conv.short_lead),
            source_of<T, 0>(dy, row, d, 0, 0), Nothing{}, to.taps || to.bias ? &sums : nullptr,
            memory);
    }
    write_sums(to, d, conv.short_taps, sums);
}

int32_t kernel_short_forward(const hyena_short *conv) {
    const ShortCall call{conv, nullptr};
    return run(
        HYENA_CHOOSE(short_forward_work, conv->dtype, conv->short_taps), &call, conv->channels, 0,
        grain_of(positions_of(conv->row, conv->rows)));
}

int32_t kernel_short_backward(const hyena_short *conv, const hyena_gradient *gradient) {
    const ShortCall call{conv, gradient};
    return run(
        HYENA_CHOOSE(short_backward_work, conv->dtype, conv->short_taps), &call, conv->channels,
        PIECE + 2 * MOST_TAPS, grain_of(positions_of(conv->row, conv->rows)));
}

}  // namespace
