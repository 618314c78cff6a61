"""The gated convolution's contenders: ours, the public recipe, and attention on as many numbers.

Sizes: B batch, D width, L length, H heads, E head size.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial

import torch
from torch import Tensor

from hyena.bench import reference
from hyena.bench.contender import (
    ATTENTION_TOLERANCE,
    BF16_TOLERANCE,
    CONV_TOLERANCE,
    Contender,
    Outputs,
    infer,
    train,
)
from hyena.bench.rivals import attention, head_size, public_gated_conv
from hyena.ops import Backend, filter_spectrum, gated_conv

Gated = Callable[[Tensor, Tensor, Tensor], Tensor]


def convolutions(
    names: Sequence[str], *, batch: int, width: int, length: int, training: bool
) -> dict[str, Contender]:
    """Contenders by name, on one z (B, 3D, L), k (D, L) and skip (D,).

    "ours" and "torch" have the filter's spectrum at hand in inference, and transform the filter in
    training, where it needs a gradient. Raises: ValueError on a name that is unknown.
    """
    B, D, L = batch, width, length
    randn = partial(torch.randn, generator=torch.Generator().manual_seed(0))
    z, k, skip = randn(B, 3 * D, L), randn(D, L), randn(D)
    dy = randn(B, D, L) if training else None
    errors = _errors(z, k, skip, dy)
    inputs = [x.requires_grad_(training) for x in (z, k, skip)]

    def contender(f: Gated) -> Contender:
        if dy is None:
            return Contender(partial(infer, f, inputs), errors, CONV_TOLERANCE)
        return Contender(partial(train, f, inputs, inputs, dy), errors, CONV_TOLERANCE)

    def ours(backend: Backend, out: Tensor | None = None) -> Contender:
        if training:
            return contender(partial(gated_conv, backend=backend))
        kept = filter_spectrum(k, L, skip, backend=backend)
        return contender(lambda z, k, skip: gated_conv(z, kept, backend=backend, out=out))

    known: dict[str, Callable[[], Contender]] = {
        "ours": lambda: ours("auto"),
        "ours_out": lambda: ours("auto", torch.empty(B, D, L)),
        "ours_recomputed": lambda: contender(gated_conv),
        "torch": lambda: ours("torch"),
        "public": lambda: contender(public_gated_conv),
        "sdpa": lambda: _attention(B, D, L, torch.float32, training),
        "sdpa_bf16": lambda: _attention(B, D, L, torch.bfloat16, training),
    }
    return {name: _known(known, name)() for name in names}


def _known(known: dict[str, Callable[[], Contender]], name: str) -> Callable[[], Contender]:
    if name not in known:
        raise ValueError(f"the gated convolution has {', '.join(known)}, but not {name}")
    return known[name]


def _errors(
    z: Tensor, k: Tensor, skip: Tensor, dy: Tensor | None
) -> Callable[[Outputs], dict[str, float]]:
    """How outputs are compared with the truth, which is computed once, when it is first needed."""
    channels = reference.compared_channels(*k.shape)
    z, k, skip = z.detach(), k.detach(), skip.detach()

    @cache
    def truth() -> dict[str, Tensor]:
        return reference.gated_conv(
            reference.of_channels(z, channels),
            k[channels],
            skip[channels],
            None if dy is None else dy[:, channels],
        )

    def errors(got: Outputs) -> dict[str, float]:
        found = {}
        for (name, expected), x in zip(truth().items(), got, strict=True):
            if name == "z":
                part = reference.of_channels(x, channels)
            else:
                part = x[:, channels] if name == "y" else x[channels]
            found[name] = reference.relative_error(part, expected)
        return found

    return errors


def _attention(B: int, D: int, L: int, dtype: torch.dtype, training: bool) -> Contender:
    """SDPA on fresh queries, keys and values of D channels in all."""
    E = head_size(D)
    generator = torch.Generator().manual_seed(0)
    q, k, v, dy = (torch.randn(B, D // E, L, E, generator=generator).to(dtype) for _ in range(4))
    leaves = [x.requires_grad_(training) for x in (q, k, v)]
    rows = reference.compared_rows(L)
    tolerance = ATTENTION_TOLERANCE if dtype == torch.float32 else BF16_TOLERANCE

    def errors(got: Outputs) -> dict[str, float]:
        wide = [x.detach().double().requires_grad_(training) for x in leaves]
        y = reference.attention(wide[0], wide[1], wide[2], rows)
        expected = [y.detach()]
        if training:
            expected += torch.autograd.grad(y, wide, dy[:, :, rows].double())
        pairs = zip(("y", "q", "k", "v"), [got[0][:, :, rows], *got[1:]], expected, strict=False)
        return {name: reference.relative_error(x, truth) for name, x, truth in pairs}

    if not training:
        return Contender(partial(infer, attention, leaves), errors, tolerance)
    call = partial(train, attention, leaves, leaves)
    # The truth of all gradients takes O(L²); that of a gradient of some positions only, O(L).
    some = torch.zeros_like(dy).index_copy_(2, rows, dy[:, :, rows])
    return Contender(partial(call, dy), errors, tolerance, partial(call, some))
