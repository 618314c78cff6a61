"""The operator in as few calls as it takes, where neither padding nor dropout comes between.

Sizes: B batch, L length, D width, N order.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from hyena.mixers.hyena.short_conv import ShortConv
from hyena.mixers.projections import channels_first, may_write_out
from hyena.ops import Backend, FilterSpectrum, Segments, gated_conv, long_conv, short_conv
from hyena.ops.native import operator

Kernel = tuple[Tensor | FilterSpectrum, Tensor | None]
"""A long convolution's filter or its spectrum, and its skip if that is no part of it."""


def fused(
    u: Tensor,
    in_proj: nn.Linear,
    short: ShortConv,
    out_proj: nn.Linear,
    kernels: Sequence[Kernel],
    segments: Segments | None,
    *,
    block_causal: bool,
    backend: Backend,
) -> Tensor:
    """What the output projection is given, (B, D, L), valid until the thread's next call.

    The native kernel may make all of it. Without, the first long convolution is one op with its
    gates and their short convolution.
    """
    direct = backend in ("auto", "native") and not block_causal
    if direct and may_write_out(in_proj, u) and may_write_out(out_proj, u):
        layers = (in_proj.weight, in_proj.bias), (short.weight, short.bias)
        y = operator.run(u, *layers, kernels, causal=short.causal, segments=segments)
        if y is not None:
            return y
    options: dict[str, Any] = {"causal": short.causal, "segments": segments, "backend": backend}
    z = channels_first(in_proj, u)
    (h, skip), *rest = kernels
    later = len(rest) * u.shape[2]  # channels of the gates x⁰, x¹, … that come after the first
    taps = short.weight[later:], short.bias[later:]
    y = gated_conv(z[:, later:], h, skip, short=taps, block_causal=block_causal, **options)
    if rest:
        gates = short_conv(z[:, :later], short.weight[:later], short.bias[:later], **options)
        for gate, (h, skip) in zip(reversed(gates.split(u.shape[2], 1)), rest, strict=True):
            y = long_conv(y, h, skip, block_causal=block_causal, **options) * gate
    return y
