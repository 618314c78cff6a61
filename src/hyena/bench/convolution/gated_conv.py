"""The gated convolution's contenders: ours, the public recipe, and attention on as many numbers.

Sizes: B batch, D width, L length, H heads, E head size.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial

import torch
from torch import Tensor

from hyena.bench import reference
from hyena.bench.convolution import truth
from hyena.bench.convolution.baselines import attention, public_gated_conv
from hyena.bench.convolution.contender import Contender, Outputs, at_rows, infer, made, train
from hyena.bench.reference import ATTENTION_TOLERANCE, BF16_TOLERANCE, CONV_TOLERANCE, head_size
from hyena.ops import Backend, filter_spectrum, gated_conv

SHORT_TAPS = 3

Gated = Callable[..., Tensor]
"""(z, k, skip), or (z, k, skip, taps, bias) with a short convolution → y."""


def convolutions(
    names: Sequence[str],
    *,
    batch: int,
    width: int,
    length: int,
    training: bool,
    short: bool = False,
) -> dict[str, Contender]:
    """Contenders by name, on one z (B, 3D, L), k (D, L) and skip (D,); with ``short`` also taps
    (3D, J) and bias (3D,) of a short convolution, for training.

    "ours" and "torch" have the filter's spectrum at hand in inference, and transform the filter in
    training, where it needs a gradient. Raises: ValueError on a name that is unknown.
    """
    B, D, L = batch, width, length
    randn = partial(torch.randn, generator=torch.Generator().manual_seed(0))
    z, k, skip = randn(B, 3 * D, L), randn(D, L), randn(D)
    dy = randn(B, D, L) if training else None
    given = [z, k, skip, *((randn(3 * D, SHORT_TAPS), randn(3 * D)) if short else ())]
    errors = _errors(given, dy)
    inputs = [x.requires_grad_(training) for x in given]

    def contender(f: Gated) -> Contender:
        if dy is None:
            return Contender(partial(infer, f, inputs), errors, CONV_TOLERANCE)
        return Contender(partial(train, f, inputs, inputs, dy), errors, CONV_TOLERANCE)

    def ours(backend: Backend) -> Contender:
        if training:
            return contender(partial(_ours, backend=backend))
        kept = filter_spectrum(k, L, skip, backend=backend)
        return contender(lambda z, k, skip: gated_conv(z, kept, backend=backend))

    known: dict[str, Callable[[], Contender]] = {
        "ours": lambda: ours("auto"),
        "ours_recomputed": lambda: contender(_ours),
        "torch": lambda: ours("torch"),
        "public": lambda: contender(public_gated_conv),
        "sdpa": lambda: _attention(B, D, L, torch.float32, training),
        "sdpa_bf16": lambda: _attention(B, D, L, torch.bfloat16, training),
    }
    return made(known, names, "the gated convolution")


def _ours(z: Tensor, k: Tensor, skip: Tensor, *short: Tensor, backend: Backend = "auto") -> Tensor:
    return gated_conv(z, k, skip, short=(short[0], short[1]) if short else None, backend=backend)


def _errors(given: Sequence[Tensor], dy: Tensor | None) -> Callable[[Outputs], dict[str, float]]:
    """How outputs are compared with the truth, which is computed once, when it is first needed."""
    given = [x.detach() for x in given]
    channels = truth.compared_channels(*given[1].shape)

    @cache
    def expected() -> dict[str, Tensor]:
        some = truth.arguments_of(channels, *given)
        return truth.gated_conv(*some, dy=None if dy is None else dy[:, channels])

    def errors(got: Outputs) -> dict[str, float]:
        y, *gradients = got
        parts = [y[:, channels]]
        if gradients:
            parts += truth.arguments_of(channels, *gradients)
        return {
            name: reference.relative_error(part, its)
            for (name, its), part in zip(expected().items(), parts, strict=True)
        }

    return errors


def _attention(B: int, D: int, L: int, dtype: torch.dtype, training: bool) -> Contender:
    """SDPA on fresh queries, keys and values of D channels in all."""
    E = head_size(D)
    generator = torch.Generator().manual_seed(0)
    q, k, v, dy = (torch.randn(B, D // E, L, E, generator=generator).to(dtype) for _ in range(4))
    leaves = [x.requires_grad_(training) for x in (q, k, v)]

    def call(dy: Tensor) -> Outputs:
        return train(attention, leaves, leaves, dy) if training else infer(attention, leaves)

    def truth(rows: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        q, k, v = wide = [x.detach().double().requires_grad_(training) for x in leaves]
        return reference.attention(q, k, v, rows), dict(zip("qkv", wide, strict=True))

    tolerance = ATTENTION_TOLERANCE if dtype == torch.float32 else BF16_TOLERANCE
    return at_rows(call, dy, 2, truth, tolerance)
