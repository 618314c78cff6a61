"""Mixers that generate: Hyena, exact and with a recurrent filter, and attention with a KV cache.

Inputs are random vectors, so that no model is needed and any position can be reached.

Sizes: B batch, D width, P context, T tokens, H heads, E head size, R compared rows of the batch.
"""

import copy
from operator import methodcaller
from typing import Any

import torch
from torch import Tensor, nn

from hyena.bench import reference
from hyena.bench.generation.baselines import CachedDotProduct, DotState
from hyena.bench.generation.cases import SUMMED, Case
from hyena.bench.generation.tokens import Course, compared, stepping
from hyena.bench.reference import ATTENTION_TOLERANCE, OPERATOR_TOLERANCE, head_size, seeded
from hyena.filters import DiagonalSSM, LongFilter
from hyena.mixers import AttentionState, CausalSelfAttention, HyenaOperator, HyenaState

STATE = 64  # numbers in the state of a channel of the recurrent filter
RECURRENT_TOLERANCE = 2e-5  # several times what rounding the decays comes to
FEWEST = 32  # tokens of a contender whose tokens all cost alike
_ROWS = 32  # positions at which attention's truth is computed at a time


def build_operator(width: int, max_length: int, *, recurrent: bool = False) -> HyenaOperator:
    """Order 2, the same weights each time, in evaluation mode.

    With filters that are recurrences of STATE numbers, as they are drawn; they are longer than
    ``max_length`` if need be.
    """
    with seeded():
        if not recurrent:
            return HyenaOperator(width, max_length).eval()
        taps = DiagonalSSM(width, state=STATE)
        filter = LongFilter(taps, width, max_length, length_policy="extrapolate")
        return HyenaOperator(width, max_length, filter=filter).eval()


def build_attention(width: int) -> CausalSelfAttention:
    """The same weights each time; without positions, which would cost more."""
    with seeded():
        return CausalSelfAttention(width, head_dim=head_size(width), rotary=False).eval()


def random_inputs(batch: int, length: int, width: int) -> Tensor:
    """(B, L, D), the same each time."""
    return torch.randn(batch, length, width, generator=torch.Generator().manual_seed(1))


def prefill(mixer: Any, u: Tensor, future: int) -> Any:
    """The state after u (B, L, D), of one row at a time, which takes less memory."""
    states = [mixer.prefill(row[None], future=future)[1] for row in u]
    return type(states[0]).join(states)


def fill_cache(mixer: CausalSelfAttention, u: Tensor, room: int) -> AttentionState:
    """The state of attention without positions after u (B, L, D), in O(L): its outputs, which a
    prefill would compute too, are not asked for."""
    k, v = heads(mixer, u)[1:]
    return AttentionState(k, v, room=room)


def heads(mixer: CausalSelfAttention, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of attention without positions: (B, H, L, E) each."""
    z = mixer.in_proj(u).unflatten(-1, (3, mixer.heads, mixer.head_dim))
    q, k, v = z.permute(2, 0, 3, 1, 4).unbind(0)
    return q, k, v


@torch.no_grad()
def full_forward(wide: nn.Module, u: Tensor) -> Tensor:
    """What the forward pass of a mixer in float64 makes of u (R, L, D): (R, L, D)."""
    return torch.cat([wide(row[None].double()) for row in u])


@torch.no_grad()
def full_attention(wide: CausalSelfAttention, u: Tensor, first: int) -> Tensor:
    """The same of attention from its definition, at positions from ``first`` on: (R, ·, D)."""
    q, k, v = heads(wide, u.double())
    positions = torch.arange(first, u.shape[1]).split(_ROWS)
    y = torch.cat([reference.attention(q, k, v, some) for some in positions], dim=2)
    return wide.out_proj(y.transpose(1, 2).flatten(2))


def checked_against(truth: Tensor, tolerance: float) -> dict[str, Any]:
    """What a `Course` is to know of the truth (R, at least as many as the tokens, D), float64."""

    def check(got: Tensor) -> float:
        """Of outputs (tokens done, R, D)."""
        return reference.relative_error(got, truth[:, : len(got)].transpose(0, 1))

    return {"check": check, "tolerance": tolerance}


class _Mixers:
    """What the contenders of a case have in common."""

    def __init__(self, case: Case) -> None:
        # T tokens from position P on, or P tokens from position 1 on.
        self.case, self.length = case, case.context + max(case.tokens, 1)
        self.u = random_inputs(case.batch, self.length, case.width)
        self.operator = build_operator(case.width, self.length)
        self.truth = full_forward(copy.deepcopy(self.operator).double(), compared(self.u))

    def course(self, name: str) -> Course:
        P = self.case.context
        first, count = P, self.case.tokens
        if name == "full":
            return self._recomputed()
        if name.startswith("L="):  # exact generation of L tokens after one
            name, first, count = "hyena", 1, int(name.removeprefix("L="))
        elif self.case.kind == "grown" and (name == "hyena" or (name == "dot" and P <= SUMMED)):
            first, count = 1, P
        u, mixer, truth = self.u[:, :first], self.operator, self.truth[:, first:]
        tokens = self.u[:, first : first + count].transpose(0, 1).contiguous().unbind()
        if name == "hyena":
            exact = checked_against(truth, OPERATOR_TOLERANCE)
            return stepping(mixer.step, prefill(mixer, u, count), HyenaState.copy, tokens, **exact)
        if name == "dot":
            dot, fewest = CachedDotProduct(mixer, self.length), None if first < P else FEWEST
            exact = checked_against(truth, OPERATOR_TOLERANCE)
            again = DotState.rewound
            return stepping(dot.step, dot.prefill(u), again, tokens, fewest=fewest, **exact)
        if name == "distilled":
            mixer = build_operator(self.case.width, self.length, recurrent=True)
            truth = full_forward(copy.deepcopy(mixer).double(), compared(self.u))[:, first:]
            near = checked_against(truth, RECURRENT_TOLERANCE)
            start = prefill(mixer, u, count)
            return stepping(mixer.step, start, HyenaState.copy, tokens, fewest=FEWEST, **near)
        if name == "attention":
            attention = build_attention(self.case.width)
            truth = full_attention(copy.deepcopy(attention).double(), compared(self.u), first)
            near = checked_against(truth, ATTENTION_TOLERANCE)
            start = fill_cache(attention, u, count)
            back = methodcaller("rewound", first)
            return stepping(attention.step, start, back, tokens, fewest=FEWEST, **near)
        raise ValueError(f"mixers have hyena, distilled, attention, dot and full, but not {name}")

    def _recomputed(self) -> Course:
        """One more token by a forward pass over all P; of which the last output is new."""
        u, mixer = self.u[:, : self.case.context].contiguous(), self.operator
        expected = self.truth[:, self.case.context - 1]

        def step(i: int) -> Tensor:
            y: Tensor = mixer(u)
            return y[:, -1]

        def check(got: Tensor) -> float:
            return reference.relative_error(got, expected.expand_as(got))

        return Course(lambda: step, FEWEST, 2, check, OPERATOR_TOLERANCE)


@torch.no_grad()
def mixer_courses(case: Case) -> dict[str, Course]:
    """The contenders of a case of one layer, also "L=…". Raises: ValueError on another name."""
    mixers = _Mixers(case)
    return {name: mixers.course(name) for name in case.contenders}
