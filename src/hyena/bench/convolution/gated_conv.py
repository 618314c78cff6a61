"""The gated convolution's contenders: ours, the public recipe, and attention on as many numbers.

Sizes: B batch, D width, L length, H heads, E head size.
"""

from collections.abc import Callable
from functools import cache, partial

import torch
from torch import Tensor

from hyena.bench import reference
from hyena.bench.convolution import truth
from hyena.bench.convolution.baselines import attention, public_gated_conv
from hyena.bench.convolution.contender import (
    Contender,
    Makers,
    Outputs,
    at_rows,
    in_float64,
    outputs,
)
from hyena.bench.reference import ATTENTION_TOLERANCE, BF16_TOLERANCE, CONV_TOLERANCE, head_size
from hyena.ops import Backend, filter_spectrum, gated_conv

SHORT_TAPS = 3

Gated = Callable[..., Tensor]
"""(z, k, skip), or (z, k, skip, taps, bias) with a short convolution → y."""


def convolutions(
    *,
    batch: int,
    width: int,
    length: int,
    training: bool,
    short: bool = False,
    device: str = "cpu",
) -> Makers:
    """Contenders on one z (B, 3D, L), k (D, L) and skip (D,); with ``short`` also taps (3D, J) and
    bias (3D,) of a short convolution, for training.

    "ours" and "torch" have the filter's spectrum at hand in inference, and transform the filter in
    training, where it needs a gradient. The truth is computed on the CPU, whatever the device.
    """
    B, D, L = batch, width, length
    randn = partial(torch.randn, generator=torch.Generator(device).manual_seed(0), device=device)
    z, k, skip = randn(B, 3 * D, L), randn(D, L), randn(D)
    dy = randn(B, D, L) if training else None
    given = [z, k, skip, *((randn(3 * D, SHORT_TAPS), randn(3 * D)) if short else ())]
    inputs = [x.detach().requires_grad_(training) for x in given]
    channels = truth.compared_channels(D, L)

    @cache
    def expected() -> dict[str, Tensor]:
        some = [x.cpu() for x in truth.arguments_of(channels, *given)]
        return truth.gated_conv(*some, dy=None if dy is None else dy[:, channels].cpu())

    def compared(got: Outputs) -> Outputs:
        y, *gradients = got
        return [y[:, channels], *(truth.arguments_of(channels, *gradients) if gradients else ())]

    def contender(f: Gated) -> Contender:
        call = partial(outputs, f, inputs, inputs, dy)
        return Contender(call, expected, CONV_TOLERANCE, compared)

    def ours(backend: Backend) -> Contender:
        if training:
            return contender(partial(_ours, backend=backend))
        kept = filter_spectrum(k, L, skip, backend=backend)
        return contender(lambda z, k, skip: gated_conv(z, kept, backend=backend))

    return {
        "ours": lambda: ours("auto"),
        "ours_recomputed": lambda: contender(_ours),
        "torch": lambda: ours("torch"),
        "public": lambda: contender(public_gated_conv),
        "sdpa": lambda: _attention(B, D, L, torch.float32, training, device),
        "sdpa_bf16": lambda: _attention(B, D, L, torch.bfloat16, training, device),
    }


def _ours(z: Tensor, k: Tensor, skip: Tensor, *short: Tensor, backend: Backend = "auto") -> Tensor:
    return gated_conv(z, k, skip, short=(short[0], short[1]) if short else None, backend=backend)


def _attention(
    B: int, D: int, L: int, dtype: torch.dtype, training: bool, device: str
) -> Contender:
    """SDPA on fresh queries, keys and values of D channels in all."""
    E = head_size(D)
    randn = partial(torch.randn, generator=torch.Generator(device).manual_seed(0), device=device)
    q, k, v, dy = (randn(B, D // E, L, E).to(dtype) for _ in range(4))
    leaves = [x.requires_grad_(training) for x in (q, k, v)]

    def truth(rows: Tensor, dy: Tensor | None) -> dict[str, Tensor]:
        wide = [x.detach().cpu().double().requires_grad_(training) for x in leaves]
        at = partial(reference.attention, rows=rows)
        return in_float64(at, wide, dict(zip("qkv", wide, strict=True)), dy)

    call = partial(outputs, attention, leaves, leaves)
    tolerance = ATTENTION_TOLERANCE if dtype == torch.float32 else BF16_TOLERANCE
    return at_rows(call, L, 2, dy if training else None, truth, tolerance)
