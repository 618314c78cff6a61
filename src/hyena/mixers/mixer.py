"""The contract of the mixers: what each is given and gives is checked here, once; a mixer itself is
its formula.

Sizes: B batch, L length, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from hyena.mixers.checks import (
    check_block,
    check_dtype,
    check_future,
    check_gaps,
    check_input,
    check_keep_inputs,
    check_left_padding,
    check_lengths,
    check_mask,
    check_token,
    segments_of,
    wrong_state,
)
from hyena.mixers.flops import LayerFlops
from hyena.ops import Segments
from hyena.ops.arguments import check_size

M = TypeVar("M", bound="type[Any]")


@dataclass(frozen=True)
class Spec:
    """What the rest of the package has to know of a mixer; see `mixer`."""

    name: str
    type: Any
    state: type[Any]
    options: Mapping[str, str | tuple[str, object]]
    long_filter: str | None


SPECS: dict[str, Spec] = {}
"""The mixers by their names in `hyena.ModelConfig`."""


def mixer(
    name: str,
    *,
    state: type[Any],
    options: Mapping[str, str | tuple[str, object]] | None = None,
    long_filter: str | None = None,
) -> Callable[[M], M]:
    """Makes a class known, under its name in `hyena.ModelConfig`, to models, files and commands. It
    may have several names, which differ in options and filter; its ``spec`` is that of the first.

    Args:
        name: as in ``mixers: NAME``.
        state: a `hyena.mixers.state.MixerState`, what its `Mixer.prefill` returns.
        options: arguments of its constructor besides the width, and the field of
            `hyena.ModelConfig` that each is; a field and a value where the argument asks for that
            value.
        long_filter: which of the model's long filters its constructor takes as ``filter``, if any:
            "filter", that of `hyena.ModelConfig.filter`; "short", "medium" or "long", one of its
            ``striped`` filters.
    """

    def register(cls: M) -> M:
        SPECS[name] = spec = Spec(name, cls, state, dict(options or {}), long_filter)
        if "spec" not in vars(cls):
            cls.spec = spec
        return cls

    return register


class Room(NamedTuple):
    """What a prefill is told of the tokens to come, which a state of one size need not know, and
    the state after those before."""

    future: int | None
    keep_inputs: bool | torch.dtype
    state: Any = None

    def kept_dtype(self, own: torch.dtype) -> torch.dtype | None:
        """The dtype in which inputs are kept, of those that have this one; None if they are not."""
        if isinstance(self.keep_inputs, torch.dtype):
            return self.keep_inputs
        return own if self.keep_inputs or self.future is None else None


class Mixer(nn.Module):
    """A layer on (B, L, D) that carries information along the sequence, causally.

    A mixer writes `_mix` and `_step`, on arguments that have been checked, the input zero at
    padding; the shapes of its state, or if that has no fixed ones, `_state_size` and `_is_own`;
    and its `_flops`. Hooks on the mixer itself fire in `forward` alone, those on its parts in
    `prefill` and `step` too. Attributes: ``width`` D.
    """

    spec: ClassVar[Spec]
    width: int
    takes_gaps: ClassVar[bool] = False  # padding between real tokens: see `forward`
    _name: ClassVar[str]

    def __init_subclass__(cls) -> None:
        cls._name = cls.__name__

    def forward(
        self,
        u: Tensor,
        *,
        mask: Tensor | None = None,
        document_ids: Tensor | Segments | None = None,
        cu_seqlens: Tensor | None = None,
    ) -> Tensor:
        """Mixes along the sequence.

        Args:
            u: (B, L, D).
            mask: (B, L) bool, True at real tokens, for padding at the ends of rows, or of packed
                documents: the outputs at real tokens are those of the unpadded rows. Outputs at
                padding mean nothing. Padding between real tokens is refused, but by attention,
                which looks past it, and counts it in the distances of rotary positions.
            document_ids: (B, L) integers; positions see only their own run of equal ids. Or the
                `hyena.ops.Segments` made of them, so that a model makes them once.
            cu_seqlens: the same as cumulative lengths, see `Segments.from_cu_seqlens`.

        Returns: (B, L, D), dtype of ``u`` (under autocast, autocast's).
        Raises: TypeError on what is no tensor; ValueError on shapes or dtypes that do not fit, on
            padding between real tokens, and on a length that the policy refuses.
        """
        u = self.checked(u, mask)
        segments = segments_of(self._name, document_ids, cu_seqlens, u)
        if not self.takes_gaps:
            check_gaps(self._name, mask, segments)
        return self._mix(u, mask, segments, None)[0]

    def prefill(
        self,
        u: Tensor,
        *,
        mask: Tensor | None = None,
        future: int | None = None,
        keep_inputs: bool | torch.dtype = False,
        state: Any = None,
    ) -> tuple[Tensor, Any]:
        """``forward`` for the tokens that are known, and the state that `step` goes on from.

        Args:
            u: (B, L, D), L ≥ 1.
            mask: (B, L) bool, padding on the left only.
            future: T, the most tokens that `step` will be given, for states that grow with them.
                What comes of it says the mixer's own description.
            keep_inputs: with ``future``, keep what it takes to go on beyond. A dtype such as
                ``torch.bfloat16`` keeps it in that one.
            state: of the tokens before u, which then are its next L: outputs and state are those of
                one prefill of all. It may be written to, as by `step`. A mask goes with the first
                tokens alone.

        Raises: as `forward`; ValueError on no token, and if a row of the mask has padding after a
            real token, or no real token; with a state as `step`.
        """
        self._check_generates("prefill")
        u = self.checked(u, mask)
        if state is not None:
            self._check_state("prefill", state)
            check_block(self._name, u, mask, state)
        if u.shape[1] == 0:
            raise ValueError(
                f"{self._name}.prefill: expected u (B, L, {self.width}) with L ≥ 1, got "
                f"{tuple(u.shape)}; {'begin' if state is None else 'go on'} with one token or more"
            )
        check_left_padding(self._name, mask)
        future = check_future(self._name, future)
        check_keep_inputs(self._name, keep_inputs)
        return self._mix(u, mask, None, Room(future, keep_inputs, state))

    def step(self, u: Tensor, state: Any) -> tuple[Tensor, Any]:
        """One more token: u (B, D) → y (B, D) and the state after it.

        Equals the last position of ``forward`` on the whole sequence, to rounding. The state that
        is given may be written to: copy it first to go on in two ways.

        Raises: TypeError on what is no tensor, and on a state of another kind; ValueError on one of
            other sizes, or less precise than u, and on a u of another dtype than the weights'.
        """
        self._check_step(u, state)
        return self._step(u, state)

    def state_size(self, length: int, future: int | None = None) -> int:
        """Numbers that the state holds for one sequence after a `prefill` of ``length`` tokens,
        with ``future`` as given to it and without ``keep_inputs``."""
        return self._state_size(*check_lengths(self._name, length, future))

    def flops(self, length: int, batch: int = 1) -> LayerFlops:
        """Floating point operations of `forward` on ``batch`` rows of ``length`` tokens.

        Raises: TypeError on what is no integer; ValueError unless both are from 1 to 2^48.
        """
        length = check_size(f"{self._name}.flops", "length", length, 1)
        batch = check_size(f"{self._name}.flops", "batch", batch, 1)
        return self._flops(length, batch)

    def _mix(
        self, u: Tensor, mask: Tensor | None, segments: Segments | None, room: Room | None
    ) -> tuple[Tensor, Any]:
        """`forward`, and for a `prefill`, which alone has ``room``, the state; no segments mean
        that each row is one document."""
        raise NotImplementedError

    def _step(self, u: Tensor, state: Any) -> tuple[Tensor, Any]:
        """`step`."""
        raise NotImplementedError

    def _flops(self, length: int, batch: int) -> LayerFlops:
        """`flops`."""
        raise NotImplementedError

    def _state_size(self, length: int, future: int | None) -> int:
        """`state_size`."""
        return sum(prod(shape) for shape in self._state_shapes())

    def _state_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shape of each tensor of the state, for one sequence."""
        raise NotImplementedError

    def _is_own(self, state: Any) -> bool:
        """Whether a state of the right kind is of this mixer's sizes."""
        return tuple(x.shape[1:] for x in state) == self._state_shapes()

    def _check_step(self, u: Tensor, state: Any) -> None:
        """Raises TypeError or ValueError as `step`."""
        self._check_state("step", state)
        check_token(self._name, u, self.width, state)
        if u.dtype is not state.dtype:
            check_dtype(self._name, u, self._dtype())

    def _check_generates(self, what: str) -> None:
        """Raises ValueError if the mixer cannot generate token by token."""

    def _check_state(self, what: str, state: Any) -> None:
        """Raises TypeError or ValueError unless the state is one of this mixer's."""
        if not (isinstance(state, self.spec.state) and self._is_own(state)):
            self._check_generates(what)
            raise wrong_state(f"{self._name}.{what}", state, self.spec.state)

    def checked(self, u: Tensor, mask: Tensor | None) -> Tensor:
        """u, zero at padding: whatever stands there, be it NaN, reaches neither sums nor
        gradients."""
        check_input(self._name, u, self.width, self._dtype())
        check_mask(self._name, mask, *u.shape[:2])
        return zero_at_padding(u, mask)

    def _dtype(self) -> torch.dtype | None:
        """That of the first linear layer; None if that is another kind of layer, quantised say,
        which may take other dtypes."""
        for layer in self._modules.values():
            if isinstance(layer, nn.Linear):
                return layer.weight.dtype if type(layer) is nn.Linear else None
        return None


def zero_at_padding(x: Tensor, mask: Tensor | None, channels: int = -1) -> Tensor:
    """x, whose channels are that dimension, with zeros where the mask (B, L) is False."""
    return x if mask is None else x.masked_fill(~mask.unsqueeze(channels), 0)
