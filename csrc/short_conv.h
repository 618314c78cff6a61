// The short convolution by itself, forward and backward, of three taps or of none; `direct.h` has the
// others.
#pragma once
#include "rows.h"
#include "threads.h"

namespace {

struct ShortCall {
    const Conv *conv;
    const Gradient *gradient;
    int64_t groups, parts;  // of the rows, as in a long convolution
    TapSums *sums;          // of all channels' groups

    ShortCall(const Conv *c, const Gradient *g) : conv(c), gradient(g), sums(nullptr) {
        const int64_t longest = c->rows ? positions_of(c->row, c->rows) / c->rows : 0;
        groups = groups_of(c->channels, c->rows, longest);
        parts = parts_of(c->channels, c->rows, groups);
    }
    int64_t grain() const { return grain_of(positions_of(conv->row, conv->rows) / parts); }
};

template <class T, int J>
void short_forward_work(const void *call, int64_t index, float *) {
    const ShortCall &c = *static_cast<const ShortCall *>(call);
    const Conv &conv = *c.conv;
    const Share rows = share_of(conv.rows, index % c.parts, c.parts);
    const int64_t d = index / c.parts;
    for (int64_t r = rows.begin; r < rows.end; ++r) {
        const hyena_row &row = conv.row[r];
        T *y = static_cast<T *>(conv.y) + row.batch * conv.y_batch_stride +
               d * conv.y_channel_stride + row.start;
        const auto x = source_of<T, J>(conv.value, row, d, conv.short_taps, conv.short_lead);
        product(y, x, Nothing{}, 0, row.length);
    }
}
template <class T, int J>
void short_backward_work(const void *call, int64_t index, float *memory) {
    const ShortCall &c = *static_cast<const ShortCall *>(call);
    const Conv &conv = *c.conv;
    const Gradient &to = *c.gradient;
    const int64_t d = index / c.parts;
    const Share groups = share_of(c.groups, index % c.parts, c.parts);
    TapSums all{};
    for (int64_t group = groups.begin; group < groups.end; ++group) {
        TapSums &sums = c.sums ? c.sums[d * c.groups + group] : all;
        const Share rows = share_of(conv.rows, group, c.groups);
        for (int64_t r = rows.begin; r < rows.end; ++r) {
            const hyena_row &row = conv.row[r];
            const Input dy{
                conv.y, conv.y_batch_stride, conv.y_channel_stride, nullptr, nullptr, nullptr};
            T *dz = static_cast<T *>(to.data);
            if (dz) dz += row.batch * to.batch_stride + d * to.channel_stride + row.start;
            source_gradient(
                dz, source_of<T, J>(conv.value, row, d, conv.short_taps, conv.short_lead),
                source_of<T, 0>(dy, row, d, 0, 0), Nothing{}, to.taps || to.bias ? &sums : nullptr,
                memory);
        }
    }
    if (!c.sums) write_sums(to, d, conv.short_taps, all);
}

#define HYENA_CHOOSE_SHORT(function, dtype, taps)                                \
    (dtype == HYENA_FLOAT32    ? taps ? function<float, 3> : function<float, 0>       \
     : dtype == HYENA_BFLOAT16 ? taps ? function<Bfloat16, 3> : function<Bfloat16, 0> \
     : taps                    ? function<Float16, 3>                                 \
                               : function<Float16, 0>)

int32_t short_forward(const Conv &conv) {
    const ShortCall call(&conv, nullptr);
    return run(
        HYENA_CHOOSE_SHORT(short_forward_work, conv.dtype, conv.short_taps), &call,
        conv.channels * call.parts, 0, call.grain());
}

int32_t short_backward(const Conv &conv, const Gradient &gradient) {
    ShortCall call(&conv, &gradient);
    const Shared<TapSums> sums(call.groups > 1 ? conv.channels * call.groups : 0);
    if (sums.failed) return 1;
    if (call.groups > 1) call.sums = sums.data;
    const int32_t failed =
        run(HYENA_CHOOSE_SHORT(short_backward_work, conv.dtype, conv.short_taps), &call,
            conv.channels * call.parts, LONGEST_PIECE, call.grain());
    if (failed || !call.sums) return failed;
    for (int64_t d = 0; d < conv.channels; ++d) {
        TapSums *total = call.sums + d * call.groups;
        for (int64_t group = 1; group < call.groups; ++group) *total += total[group];
        write_sums(gradient, d, conv.short_taps, *total);
    }
    return 0;
}

}  // namespace
