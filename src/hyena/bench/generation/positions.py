"""Generation with a recurrent filter at positions that are far apart: its state has one size.

A position is reached in chunks, so that memory does not grow with it.

Sizes: D width, K taps of the short convolution, L tokens of a chunk, T tokens that are generated,
n numbers in the state of a channel.
"""

import copy
from collections import deque
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from hyena.bench.generation.cases import Case
from hyena.bench.generation.mixers import (
    RECURRENT_TOLERANCE,
    build_operator,
    checked_against,
    full_forward,
)
from hyena.bench.generation.tokens import Course, stepping
from hyena.filters import DiagonalSSM, LongFilter
from hyena.mixers import HyenaOperator, HyenaState
from hyena.ops.stepping.recurrence import RecurrentState

CHUNK = 1 << 15
# Inputs from so far back weigh less than 1e-28 of their first weight, so that the truth leaves out
# what is older: the slowest decay that the filters are drawn with is e^(−1/2000).
_KEPT = (1 << 17) // CHUNK + 1  # chunks; the last may be short


@torch.no_grad()
def position_courses(case: Case) -> dict[str, Course]:
    """T tokens of one layer from each position t on, for contenders "t=…", t ≥ 1."""
    operator = build_operator(case.width, case.tokens, recurrent=True)
    wide = copy.deepcopy(operator).double()
    (u,) = chunks(case.tokens, case.width, seed=2)
    tokens, found = u[:, None].unbind(), {}
    for name in case.contenders:
        before = partial(chunks, int(name.removeprefix("t=")), case.width)
        start = state_after(operator, before())
        recent = deque(before(), maxlen=_KEPT)
        truth = full_forward(wide, torch.cat([*recent, u])[None])[:, -case.tokens :]
        near = checked_against(truth, RECURRENT_TOLERANCE)
        found[name] = stepping(operator.step, start, HyenaState.copy, tokens, **near)
    return found


def chunks(length: int, width: int, seed: int = 1) -> Iterator[Tensor]:
    """Random inputs (·, D) of that length, the same each time."""
    generator = torch.Generator().manual_seed(seed)
    for begin in range(0, length, CHUNK):
        yield torch.randn(min(CHUNK, length - begin), width, generator=generator)


def state_after(operator: HyenaOperator, inputs: Iterator[Tensor]) -> HyenaState:
    """The state of an operator of order 2 with a recurrent filter after inputs (L, D) in chunks."""
    filter, keep = operator.filter, operator.short_width - 1
    assert isinstance(filter, LongFilter)
    assert isinstance(filter.taps, DiagonalSSM)
    decay = filter.taps.recurrence()[0].to(torch.complex128)  # (1, D, n/2)
    x = torch.zeros(1, *decay.shape, dtype=torch.complex128)
    before = torch.zeros(1, 3 * operator.width, keep)
    length = 0
    for u in inputs:
        z = torch.cat([before, operator.in_proj(u[None]).transpose(1, 2)], dim=-1)
        _, gate, v = operator.short_conv(z)[..., keep:].split(operator.width, dim=1)
        left = torch.view_as_complex(filter.state_after(gate * v, 0))  # (1, D, n/2)
        x = x * decay ** u.shape[0] + left[:, None]
        before = z[..., z.shape[-1] - keep :]
        length += u.shape[0]
    parts = torch.view_as_real(x).float()
    return HyenaState(before, RecurrentState(parts), length)
