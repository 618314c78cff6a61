"""Mixers that generate: Hyena, exact and with a recurrent filter, and attention with a KV cache.

Inputs are random vectors, so that no model is needed and any position can be reached.

Sizes: B batch, D width, P context, T tokens, H heads, E head size, R compared rows of the batch.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from hyena.bench import reference
from hyena.bench.generation.baselines import CachedDotProduct
from hyena.bench.generation.cases import BARE, SUMMED, Case
from hyena.bench.generation.held import held_bytes
from hyena.bench.generation.tokens import Course, Step, compared
from hyena.bench.reference import ATTENTION_TOLERANCE, OPERATOR_TOLERANCE, head_size, seeded
from hyena.filters import DiagonalSSM, LongFilter
from hyena.mixers import AttentionState, CausalSelfAttention, HyenaOperator

STATE = 64  # numbers in the state of a channel of the recurrent filter
RECURRENT_TOLERANCE = 2e-5  # several times what rounding the decays comes to
FEWEST = 32  # tokens of a contender whose tokens all cost alike
_ROWS = 32  # positions at which attention's truth is computed at a time

Mixer = HyenaOperator | CausalSelfAttention | CachedDotProduct


class Given(nn.Module):
    """In the place of a projection: hands out, call by call, what that has made before."""

    def __init__(self, z: Tensor) -> None:
        super().__init__()
        self.z, self.at = z.unbind(), 0

    def forward(self, u: Tensor) -> Tensor:
        self.at += 1
        return self.z[self.at - 1]


def without_projections(mixer: Mixer, z: Tensor) -> tuple[Mixer, Given]:
    """The mixer between its projections; z (tokens, B, C), what the first of them would give."""
    bare, given = copy.copy(mixer), Given(z)
    bare._modules = {**mixer._modules, "in_proj": given, "out_proj": nn.Identity()}
    return bare, given


def build_mixer(name: str, width: int, max_length: int) -> HyenaOperator | CausalSelfAttention:
    """ "hyena", "distilled" or "attention", as the functions below make them."""
    if name == "attention":
        return build_attention(width)
    return build_operator(width, max_length, recurrent=name == "distilled")


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


def rewound(state: AttentionState, length: int) -> AttentionState:
    """A state of the first tokens in the same buffers, where what comes later is written over."""
    start = copy.copy(state)
    start.length = length
    return start


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


@dataclass
class _Way:
    """How a mixer generates in a case: tokens from position ``first`` on."""

    mixer: Mixer
    begin: Callable[[], Any]
    """To its state before the first of them."""
    first: int
    tokens: int
    truth: Callable[[], Tensor]
    """(R, tokens, D) float64."""
    tolerance: float
    held: int
    all: bool = False
    """Whether it has to do all of them, since they do not cost alike."""


class _Mixers:
    """What the contenders of a case have in common."""

    def __init__(self, case: Case) -> None:
        # T tokens from position P on, or P tokens from position 1 on.
        self.case, self.length = case, case.context + max(case.tokens, 1)
        self.u = random_inputs(case.batch, self.length, case.width)
        self.operator = build_operator(case.width, self.length)
        self.truth = full_forward(copy.deepcopy(self.operator).double(), compared(self.u))
        self._ways: dict[str, _Way] = {}

    def course(self, name: str) -> Course:
        if name == "full":
            return self._recomputed()
        base = name.removesuffix(BARE)
        if base not in self._ways:
            self._ways[base] = self._way(base)
        way = self._ways[base]
        u = self.u[:, way.first : way.first + way.tokens].transpose(0, 1).contiguous()
        begin, check = partial(_begin, way, u), partial(_error, way)
        if base != name:
            bare, given = without_projections(way.mixer, way.mixer.in_proj(u))
            begin = partial(_begin, way, u, bare, given)
            check = partial(_error, way, project=way.mixer.out_proj)
        fewest = None if way.all else FEWEST
        return Course(begin, way.tokens, fewest, check, way.tolerance, way.held)

    def exact(self, first: int, tokens: int) -> _Way:
        start = prefill(self.operator, self.u[:, :first], tokens)
        truth = partial(self.truth.narrow, 1, first, tokens)
        held = held_bytes(start)
        return _Way(
            self.operator, start.copy, first, tokens, truth, OPERATOR_TOLERANCE, held, all=True
        )

    def _way(self, name: str) -> _Way:
        P, T, grown = self.case.context, self.case.tokens, self.case.kind == "grown"
        if name == "hyena":
            return self.exact(1, P) if grown else self.exact(P, T)
        if name == "dot":
            grown = grown and P <= SUMMED
            return self._dot(1, P, True) if grown else self._dot(P, T, False)
        if name == "distilled":
            return self._distilled(P, T)
        if name == "attention":
            return self._attention(P, T)
        raise ValueError(f"mixers have hyena, distilled, attention, dot and full, but not {name}")

    def _dot(self, first: int, tokens: int, all: bool) -> _Way:
        mixer = CachedDotProduct(self.operator, self.length)
        start = mixer.prefill(self.u[:, :first])
        truth = partial(self.truth.narrow, 1, first, tokens)
        held = held_bytes(start)
        return _Way(mixer, start.rewound, first, tokens, truth, OPERATOR_TOLERANCE, held, all=all)

    def _distilled(self, first: int, tokens: int) -> _Way:
        mixer = build_operator(self.case.width, self.length, recurrent=True)
        whole = full_forward(copy.deepcopy(mixer).double(), compared(self.u))
        start = prefill(mixer, self.u[:, :first], tokens)
        truth = partial(whole.narrow, 1, first, tokens)
        held = held_bytes(start)
        return _Way(mixer, start.copy, first, tokens, truth, RECURRENT_TOLERANCE, held)

    def _attention(self, first: int, tokens: int) -> _Way:
        mixer = build_attention(self.case.width)
        start = fill_cache(mixer, self.u[:, :first], tokens)

        def truth() -> Tensor:
            return full_attention(copy.deepcopy(mixer).double(), compared(self.u), first)

        begin = partial(rewound, start, first)
        held = held_bytes(start)
        return _Way(mixer, begin, first, tokens, cache(truth), ATTENTION_TOLERANCE, held)

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
    """The contenders of a case of one layer. Raises: ValueError on a name that is unknown."""
    mixers = _Mixers(case)
    return {name: mixers.course(name) for name in case.contenders}


@torch.no_grad()
def growth_courses(case: Case) -> dict[str, Course]:
    """Exact generation of L tokens after one, for contenders "L=…"."""
    mixers, found = _Mixers(case), {}
    for name in case.contenders:
        way = mixers.exact(1, int(name.removeprefix("L=")))
        u = mixers.u[:, 1 : 1 + way.tokens].transpose(0, 1).contiguous()
        check = partial(_error, way)
        begin = partial(_begin, way, u)
        found[name] = Course(begin, way.tokens, None, check, way.tolerance, way.held)
    return found


def _begin(way: _Way, u: Tensor, bare: Mixer | None = None, given: Given | None = None) -> Step:
    """u (tokens, B, D)."""
    state, tokens = way.begin(), u.unbind()
    mixer: Any = way.mixer if bare is None else bare
    if given is not None:
        given.at = 0

    def step(i: int) -> Tensor:
        y, _ = mixer.step(tokens[i], state)
        return y

    return step


def _error(way: _Way, got: Tensor, *, project: Callable[[Tensor], Tensor] | None = None) -> float:
    """Of outputs (tokens done, R, D), or what the output projection would make of them."""
    got = got if project is None else project(got)
    return reference.relative_error(got, way.truth()[:, : got.shape[0]].transpose(0, 1))
