"""Every mixer, small and in float64, and what the tests of all have in common.

A mixer is a row in CASES.
"""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hyena.filters import (
    DiagonalSSM,
    ExplicitTaps,
    HyenaFilter,
    LongFilter,
    ModalTaps,
    RealModalTaps,
)
from hyena.mixers import (
    GSS,
    H3,
    RWKV,
    S4D,
    AFTConv,
    CausalSelfAttention,
    HyenaOperator,
    LinearAttention,
)
from hyena.mixers.rivals.mamba2 import Mamba2

D, M = 8, 24
Make = Callable[..., Any]


def hyena(order: int, **options: Any) -> Make:
    return lambda **place: HyenaOperator(D, M, order, **options, **place)


def recurrent(**place: Any) -> HyenaOperator:
    taps = DiagonalSSM(D, filters=2, state=6, **place)
    return HyenaOperator(D, M, 3, filter=LongFilter(taps, D, M, filters=2, **place), **place)


def short_filter(**place: Any) -> HyenaOperator:
    taps = ExplicitTaps(D, 24, groups=2, **place)  # as many as inputs, so that none counts nowhere
    return HyenaOperator(D, M, filter=LongFilter(taps, D, M, skip=False, **place), **place)


def medium_filter(**place: Any) -> HyenaOperator:
    taps = ExplicitTaps(D, 24, groups=4, decay=True, **place)
    with torch.no_grad():  # of which the window leaves little at the last lags
        taps.weight.mul_(3)
    filter = LongFilter(taps, D, M, **place)
    return HyenaOperator(D, M, filter=filter, bias=False, **place)


def poles(**place: Any) -> HyenaOperator:
    taps = ModalTaps(D, 3, groups=2, **place)
    return HyenaOperator(D, M, filter=LongFilter(taps, D, M, skip=False, **place), **place)


def long_filter(**place: Any) -> HyenaOperator:
    taps = RealModalTaps(D, 5, filters=2, **place)
    filter = LongFilter(taps, D, M, filters=2, **place)
    return HyenaOperator(D, M, 3, filter=filter, bias=False, **place)


def trained_table(**place: Any) -> HyenaOperator:
    filter = HyenaFilter(D, M, train_encoding=True, **place)
    return HyenaOperator(D, M, filter=filter, **place)


def aft_conv(taps: int) -> Make:
    def make(**place: Any) -> AFTConv:
        mixer = AFTConv(D, taps=taps, **place)
        with torch.no_grad():  # which begin at zero
            mixer.gain.normal_()
            mixer.offset.normal_()
        # To all in the window it is the same: where nothing is outside, its gradient is rounding.
        mixer.offset.requires_grad_(False)
        return mixer

    return make


# By name in a model's configuration, and what is special about the case.
CASES: dict[str, Make] = {
    "hyena": hyena(2),
    "hyena, order 3": hyena(3, short_width=5),
    "hyena, naive": hyena(2, backend="naive"),
    "hyena, recurrences": recurrent,
    "hyena, poles": poles,
    "hyena, trained table": trained_table,
    "hyena-se": short_filter,
    "hyena-mr": medium_filter,
    "hyena-li": long_filter,
    "attention": lambda **place: CausalSelfAttention(D, head_dim=2, **place),
    "attention, grouped queries": lambda **place: CausalSelfAttention(
        D, head_dim=2, kv_heads=2, rotary_scale=4.0, bias=False, **place
    ),
    "linear-attention": lambda **place: LinearAttention(D, head_dim=2, **place),
    "rwkv": lambda **place: RWKV(D, **place),
    "aft-conv": aft_conv(4),
    "aft-conv, long window": aft_conv(32),
    "mamba2": lambda **place: Mamba2(D, head_dim=4, state=6, **place),
    "s4d": lambda **place: S4D(D, state=6, **place),
    "h3": lambda **place: H3(D, state=6, **place),
    "h3, heads": lambda **place: H3(D, head_dim=2, state=6, **place),
    "gss": lambda **place: GSS(D, state=6, **place),
}
each_mixer = pytest.mark.parametrize("name", CASES)

# More operators, for what depends on the order, the short convolution or the direction.
CAUSAL: dict[str, Make] = {
    f"order {order}, {taps} taps": hyena(order, short_width=taps)
    for order in (2, 3, 4)
    for taps in range(1, 6)
}
BIDIRECTIONAL: dict[str, Make] = {
    "bidirectional": hyena(2, bidirectional=True),
    "bidirectional, order 3": hyena(3, short_width=5, bidirectional=True),
}


def build(name: str, **place: Any) -> Any:
    make = (CASES | CAUSAL | BIDIRECTIONAL)[name]
    return make(**{"dtype": torch.float64, **place})


def draw(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def generate(
    mixer: Any,
    u: Tensor,
    prompt: int,
    mask: Tensor | None = None,
    future: int | None = None,
    keep_inputs: bool = False,
) -> tuple[Tensor, Any]:
    """The outputs of a prefill of ``prompt`` tokens and of steps for the others, (B, L, D)."""
    y, state = mixer.prefill(
        u[:, :prompt],
        mask=None if mask is None else mask[:, :prompt],
        future=future,
        keep_inputs=keep_inputs,
    )
    outputs = [y]
    for t in range(prompt, u.shape[1]):
        y, state = mixer.step(u[:, t], state)
        assert y.shape == (u.shape[0], u.shape[2])
        outputs.append(y[:, None])
    return torch.cat(outputs, dim=1), state


def separately(mixer: nn.Module, lengths: Sequence[int]) -> Callable[[Tensor], Tensor]:
    """Tokens (T, D) of documents end to end, each mixed on its own."""

    def run(tokens: Tensor) -> Tensor:
        return torch.cat([mixer(x[None])[0] for x in tokens.split(list(lengths))])

    return run


def padded(
    mixer: nn.Module, lengths: Sequence[int], left: Sequence[int], L: int, fill: float
) -> Callable[[Tensor], Tensor]:
    """The same, as rows of L with so much padding on the left and the rest on the right."""
    mask = torch.zeros(len(lengths), L, dtype=torch.bool)
    for row, (length, start) in enumerate(zip(lengths, left, strict=True)):
        mask[row, start : start + length] = True

    def run(tokens: Tensor) -> Tensor:
        u = torch.full((len(lengths), L, D), fill, dtype=tokens.dtype)
        return mixer(u.masked_scatter(mask[..., None], tokens), mask=mask)[mask]

    return run
