"""Floating point operations of a Hyena operator.

Sizes: B batch, L length, D width, N order.
"""

from hyena.filters import HyenaFilter, LongFilter
from hyena.filters.flops import block_causal_convolution, convolution
from hyena.mixers.flops import LayerFlops
from hyena.mixers.hyena.kernels import finite_taps


def flops(
    width: int,
    order: int,
    short_width: int,
    filter: HyenaFilter | LongFilter,
    length: int,
    batch: int,
    *,
    block_causal: bool,
) -> LayerFlops:
    """Of a forward pass of ``batch`` rows of ``length`` tokens, one document each, filters made
    anew; kept spectra spare the parts ``filter …``. By transforms, also where the kernel sums taps
    or modes instead."""
    D, N, positions = width, order, batch * length
    lead = length - 1 if filter.bidirectional else 0
    of_filter = filter.flops(length)
    if block_causal:
        row, filter_fft = block_causal_convolution(length)
    else:
        taps = min(finite_taps(filter) or length, length) + lead
        row, filter_fft = convolution(taps, length, lead)
    return LayerFlops(
        {
            "projections": 2 * (N + 1) * D * D * positions,
            "short_conv": 2 * (N + 1) * D * positions * short_width,
            "gates": N * D * positions,
            "long_conv": batch * (N - 1) * D * row,
            "filter_network": of_filter.products,
            "filter_values": of_filter.transforms + of_filter.pointwise,
            "filter_fft": (N - 1) * D * filter_fft,
            "output": 2 * D * D * positions,
        },
        shared=of_filter.shared,
    )
