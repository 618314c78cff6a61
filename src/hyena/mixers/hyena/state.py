"""What a Hyena operator remembers of a sequence, from token to token.

Sizes: B batch, L length, D width, N order, K taps of the short convolution, C = (N+1)·D its
channels.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hyena.filters import Filter, LongFilter
from hyena.filters.cache import ParameterCache, Version
from hyena.mixers.checks import wrong_state
from hyena.ops import Backend
from hyena.ops.stepping.finite import FiniteState
from hyena.ops.stepping.online import OnlineState
from hyena.ops.stepping.recurrence import RecurrentState
from hyena.ops.stepping.states import State, check_alike, normal_tensors

CHECKED = 64  # tokens after which a filter is compared with its parameters, or else read again
_FEWEST = 256  # positions that a state which grows by itself plans for at least

LongState = OnlineState | RecurrentState | FiniteState
"""What the long convolutions remember: by its filters' kind, the last two of one size."""


class HyenaState(State):
    """The state of a `hyena.HyenaOperator`, advanced in place by a step.

    Args:
        short: (B, C, K−1), the last inputs of the short convolution, oldest first.
        long: the state of the N − 1 long convolutions, which this takes over.
        length: tokens so far, padding included.

    Attributes: ``long`` and ``length``, as given; ``batch`` B; ``sizes`` (C, K−1, N−1, D);
        ``before``, the inputs of the short convolution latest first, (B, C) each.
    """

    def __init__(self, short: Tensor, long: LongState, length: int) -> None:
        if short.dim() != 3:
            raise ValueError(f"HyenaState: expected short (B, C, K−1), got {tuple(short.shape)}")
        self.long, self.length = long, length
        self.batch, self.sizes = short.shape[0], (*short.shape[1:], *long.sizes)
        with normal_tensors():
            latest_first = short.flip(2).permute(2, 0, 1).contiguous()
            self._none = short.new_empty(*short.shape[:2], 0)
        self.before = deque(latest_first.unbind(), maxlen=short.shape[2])
        self.kept: ParameterCache | None = None
        self.ready = 0
        self.versions: list[Version] = []  # of the weights, when steps read them
        self.route: Any = None

    def __repr__(self) -> str:
        return f"HyenaState(batch={self.batch}, length={self.length})"

    @property
    def device(self) -> torch.device:
        return self._none.device

    @property
    def dtype(self) -> torch.dtype:
        """That of the sums of the long convolutions."""
        return self.long.dtype

    @property
    def short(self) -> Tensor:
        """The last inputs of the short convolution, oldest first: (B, C, K−1)."""
        oldest_first = list(self.before)[::-1]
        return torch.stack(oldest_first, dim=-1) if oldest_first else self._none

    @property
    def grows(self) -> bool:
        """Whether any number of tokens may follow, not just those that were planned for."""
        return not isinstance(self.long, OnlineState) or self.long.keeps_inputs

    def prepare(self, filter: Filter, backend: Backend) -> None:
        """Makes ready for more tokens of an operator with this filter, up to a length of ``ready``.

        What steps read of the filter is found at the first, anew where a step sees that a weight
        has another version, and every `CHECKED` tokens compared with the parameters, or made again
        where it cannot be compared: more would cost as much as a small operator's step.

        Raises: ValueError if all tokens that were planned for have come and the inputs, which it
            takes to plan for more, were not kept; if the length policy has no room for one more.
        """
        if self.length >= filter.max_length:
            filter.check_growth(self.length + 1)
        self.bind(filter, backend)
        long = self.long
        if isinstance(long, OnlineState) and long.full:
            self._extend(long, filter, backend)
        ends = [self.length + CHECKED]
        if self.length < filter.max_length:
            ends.append(filter.max_length)
        if isinstance(long, OnlineState):
            ends.append(self.length + long.planned - long.position)
        self.ready = min(ends)

    def advance(self, z: Tensor) -> None:
        """To the next token, after one whose input of the short convolution was z (B, C), which
        the state takes over."""
        self.before.appendleft(z)
        self.long.advance()
        self.length += 1

    def limit(self, future: int) -> None:
        """Gives back what is planned beyond ``future`` more tokens."""
        if isinstance(self.long, OnlineState):
            self.long.limit(future)
            self.ready, self.route = 0, None

    @classmethod
    def gather(cls, states: Sequence[HyenaState], shifts: Sequence[int]) -> HyenaState:
        """See `MixerState.gather`. Raises: ValueError as `OnlineState.gather`."""
        kind: Any = type(states[0].long)
        if any(type(x.long) is not kind for x in states):
            raise ValueError("HyenaState.gather: the states are of filters of different kinds")
        parts = [{"short": x.short} for x in states]
        check_alike("HyenaState", parts, [{}] * len(states))
        long: LongState = kind.gather([x.long for x in states], shifts)
        with normal_tensors():
            short = torch.cat([part["short"] for part in parts])
            return cls(short, long, states[0].length + shifts[0])

    def tensors(self) -> dict[str, Tensor]:
        """What has to be stored: ``short``, and what the long convolutions have."""
        return {"short": self.short, **self.long.tensors()}

    def settings(self) -> dict[str, int]:
        """The numbers that go with the tensors."""
        return {"length": self.length, **self.long.settings()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], settings: Mapping[str, int]) -> HyenaState:
        """See `MixerState.from_tensors`."""
        long: LongState
        if "x" in tensors:
            long = RecurrentState.from_tensors(tensors, settings)
        elif "due" in tensors:
            long = FiniteState.from_tensors(tensors, settings)
        else:
            long = OnlineState.from_tensors(tensors, settings)
        return cls(tensors["short"], long, settings["length"])

    def __reduce__(self) -> tuple[Callable[..., HyenaState], tuple[object, ...]]:
        # For pickle and `copy.deepcopy`: what a step has made for itself are addresses and views.
        whole = self.copy()
        return HyenaState.from_tensors, (whole.tensors(), whole.settings())

    def _follow(self, other: HyenaState) -> None:
        self.kept, self.ready, self.versions = other.kept, other.ready, other.versions
        long: Any = self.long  # which is of the kind of the other
        long.filter = other.long.filter

    def bind(self, filter: Filter, backend: Backend, what: str = "step") -> None:
        """Takes what steps read of the filter. Raises ValueError if it is of another kind."""
        self.ready, self.route = 0, None
        fits, long = False, self.long
        recurrent = isinstance(filter, LongFilter) and filter.recurrent
        if isinstance(long, OnlineState):
            if fits := not recurrent:
                long.filter = filter.online(long.planned, block=long.block, backend=backend)
        elif isinstance(long, RecurrentState):
            if isinstance(filter, LongFilter) and recurrent:
                recurrence = long.filter = filter.recurrence()
                fits = recurrence.fits(long)
        elif isinstance(filter, LongFilter) and filter.finite is not None:
            finite = long.filter = filter.finite_filter()
            fits = finite.sizes == (*long.sizes, long.taps)
        if not fits:
            raise wrong_state(f"HyenaOperator.{what}", self, HyenaState)
        self.kept = filter.kept

    def _extend(self, long: OnlineState, filter: Filter, backend: Backend) -> None:
        """Plans for as many tokens as have come, from the inputs of all."""
        limit = filter.limit
        if not long.keeps_inputs:
            raise ValueError(
                f"HyenaOperator.step: the {self.length} tokens that were planned for have come, "
                "the prompt's among them; plan for more (future=), or prefill with keep_inputs=True"
            )
        room = max(self.length, _FEWEST)
        if limit is not None:
            room = min(room, limit - self.length)
        taps = 2 * max(self.length, room)
        with normal_tensors():
            h = filter(taps if limit is None else min(taps, limit))
        long.filter = filter.online(room, block=long.block, backend=backend)
        long.extend(h, room)
