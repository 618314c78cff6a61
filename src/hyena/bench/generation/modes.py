"""A hyena-li operator at positions far apart: the state that a prompt leaves behind, and steps.

Its filter is a sum of real exponentials (Ku et al. 2025, arXiv:2503.01868), so that its state has
one size. A position is reached by prefills of pieces, in memory that does not grow with it.

Sizes: D width, L positions, S exponentials, T tokens that are generated.
"""

import copy
from collections import deque
from functools import partial
from typing import Any

import torch
from torch import Tensor

from hyena.bench.generation.cases import Case
from hyena.bench.generation.mixers import RECURRENT_TOLERANCE, checked_against, full_forward
from hyena.bench.generation.positions import chunks
from hyena.bench.generation.tokens import Course, stepping
from hyena.bench.reference import relative_error, seeded
from hyena.filters import LongFilter, RealModalTaps
from hyena.mixers import HyenaOperator, HyenaState

MODES = 16  # S, as in Evo 2
# Inputs from two chunks ago weigh less than 1e-14 of their first weight, so that the truth leaves
# out what is older: the slowest decay that the filters are drawn with is e^(−1/1000).
_KEPT = 3  # chunks; the last may be short


def build_modal_operator(width: int, max_length: int) -> HyenaOperator:
    """Order 2, the same weights each time, in evaluation mode, for inputs of any length."""
    with seeded():
        taps = RealModalTaps(width, MODES)
        filter = LongFilter(taps, width, max_length, length_policy="extrapolate")
        return HyenaOperator(width, max_length, filter=filter).eval()


@torch.no_grad()
def modal_courses(case: Case) -> dict[str, Course]:
    """T tokens of one layer from each position t on, for contenders "t=…", t ≥ 1."""
    operator = build_modal_operator(case.width, case.tokens)
    wide = copy.deepcopy(operator).double()
    (u,) = chunks(case.tokens, case.width, seed=2)
    tokens, found = u[:, None].unbind(), {}
    for name in case.contenders:
        before = partial(chunks, int(name.removeprefix("t=")), case.width)
        state: Any = None
        for piece in before():
            _, state = operator.prefill(piece[None], state=state)
        recent = torch.cat(list(deque(before(), maxlen=_KEPT)))
        truth = full_forward(wide, torch.cat([recent, u])[None])[:, -case.tokens :]
        near = checked_against(truth, RECURRENT_TOLERANCE)
        off = relative_error(modes_of(state), state_by_definition(wide, recent))
        found[name] = stepping(
            operator.step, state, HyenaState.copy, tokens, state_error=off, **near
        )
    return found


def modes_of(state: HyenaState) -> Tensor:
    """The numbers (D, S) that the long convolution of one row remembers."""
    return state.long.tensors()["x"][0, 0, ..., 0]


@torch.no_grad()
def state_by_definition(wide: HyenaOperator, u: Tensor) -> Tensor:
    """What an operator in float64 remembers of inputs (L, D), position by position: x ← a·x + v,
    (D, S), of the inputs v of its long convolution."""
    filter = wide.filter
    assert isinstance(filter, LongFilter)
    assert isinstance(filter.taps, RealModalTaps)
    decay = filter.taps.recurrence()[0][0]  # (D, S)
    z = wide.in_proj(u[None].double()).transpose(1, 2)  # (1, 3D, L)
    _, gate, v = wide.short_conv(z)[0].split(wide.width)
    x = torch.zeros_like(decay)
    for v_t in (gate * v).t().contiguous().unbind():
        x.mul_(decay).add_(v_t[:, None])
    return x
