"""Convolutions with filters of few taps, one position at a time in constant memory.

An input adds to its own output and to the K − 1 after it, at once. What the inputs so far add to
the next K − 1 outputs is all that has to be remembered of them: as many numbers as the last K − 1
inputs themselves.

Sizes: B batch, F convolutions that take turns at each position, D channels of each, K taps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from hyena.ops.arguments import check_size, check_tensor
from hyena.ops.backend import Backend
from hyena.ops.native.step import NativeStep, OnlineStep, takes
from hyena.ops.observed import transformed
from hyena.ops.stepping.online import contribution
from hyena.ops.stepping.states import State, normal_tensors


class FiniteFilter(NamedTuple):
    """F filters of K taps for D channels each; made by `finite_filter`."""

    taps: Tensor  # (F, K, 1, D) by lag, those of lag 0 with the skip

    @property
    def sizes(self) -> tuple[int, int, int]:
        """(F, D, K)."""
        parts, taps, _, width = self.taps.shape
        return parts, width, taps


def finite_filter(taps: Tensor, skip: Tensor) -> FiniteFilter:
    """What steps read of taps (F, D, K) and a direct path (F, D).

    Raises: TypeError on what is no tensor; ValueError on other shapes.
    """
    check_tensor("finite_filter", "taps", taps)
    check_tensor("finite_filter", "skip", skip)
    if taps.dim() != 3 or taps.shape[2] == 0 or skip.shape != taps.shape[:2]:
        raise ValueError(
            "finite_filter: expected taps (F, D, K) with K ≥ 1 and skip (F, D), got "
            f"{tuple(taps.shape)} and {tuple(skip.shape)}"
        )
    first = taps[..., :1] + skip[..., None].to(taps.dtype)
    taps = torch.cat([first, taps[..., 1:]], dim=-1)
    return FiniteFilter(taps.permute(0, 2, 1)[:, :, None].contiguous())


def due_after(
    inputs: Tensor, taps: Tensor, before: Tensor | None = None, *, backend: Backend = "auto"
) -> Tensor:
    """What inputs (B, C, L) add to the K − 1 outputs after them, (B, C, K − 1).

    Args: taps (C, K); ``before``, like the result, what still earlier inputs add to outputs from
        the first of these inputs on.
    """
    ahead, L = taps.shape[1] - 1, inputs.shape[-1]
    latest = inputs[..., max(L - ahead, 0) :].to(taps.dtype)
    due = contribution(latest, taps, ahead, backend=backend)
    if before is not None and ahead > L:
        due = due + F.pad(before[..., L:], (0, L))
    return due


class FiniteState(State):
    """F convolutions in the middle of a sequence, for B rows; advanced in place.

    Args:
        due: (B, F·D, K − 1), what the inputs so far add to the next outputs.
        parts: F.

    Attributes: ``filter``, the `FiniteFilter`, None until it is set; ``full``, never: any number of
        positions may come.
    """

    full = False

    def __init__(self, due: Tensor, parts: int) -> None:
        check_tensor("FiniteState", "due", due)
        parts = check_size("FiniteState", "parts", parts, 1)
        if due.dim() != 3 or due.shape[1] % parts:
            raise ValueError(
                f"FiniteState: expected due (B, F·D, K−1), got {tuple(due.shape)} and F = {parts}"
            )
        self.filter: FiniteFilter | None = None
        B, channels, ahead = due.shape
        each = parts, channels // parts
        # Outputs of K positions to come, before each of which stands its input, and of the K − 1
        # after them: so the numbers move once in K steps.
        with normal_tensors():
            self._rows = due.new_zeros(2 * (ahead + 1), each[0], B, each[1])
            self._rows[1 : ahead + 1] = due.unflatten(1, each).permute(3, 1, 0, 2)
        self._taps, self._row = ahead + 1, 0

    @property
    def due(self) -> Tensor:
        """What the inputs so far add to the next outputs, (B, F·D, K − 1)."""
        rows = self._rows[self._row + 1 : self._row + self._taps]
        return rows.permute(2, 1, 3, 0).flatten(1, 2)

    @property
    def sizes(self) -> tuple[int, int]:
        """(F, D)."""
        return self._rows.shape[1], self._rows.shape[3]

    @property
    def taps(self) -> int:
        """K."""
        return self._taps

    @property
    def dtype(self) -> torch.dtype:
        """That of the sums."""
        return self._rows.dtype

    def step(self, part: int, gate: Tensor, value: Tensor) -> Tensor:
        """The output (B, D) of one of the convolutions, whose input is gate · value.

        Each takes its turn once; then comes `advance`, until which the output is valid.
        """
        assert self.filter is not None
        entry = self._rows[self._row, part]
        rest = self._rows[self._row + 1 : self._row + 1 + self._taps, part]
        taps = self.filter.taps[part]
        if transformed():  # which have no rules for the others
            entry.copy_(value * gate)
            rest.add_(entry * taps)
        else:
            torch.mul(value, gate, out=entry)
            rest.addcmul_(entry, taps)
        return rest[0]

    def native(self, short: tuple[Tensor, Tensor]) -> NativeStep | None:
        """As of `hyena.ops.stepping.online.OnlineState`."""
        if self.filter is None or not takes(self.filter.taps, self._rows):
            return None
        # The input of a position is written over the output of the one before.
        rows = self._rows[: self._taps], self._rows[1:]
        return NativeStep(
            OnlineStep(short, self.filter.taps, *rows), lambda: (self._row, self._taps)
        )

    def advance(self) -> None:
        """To the next position."""
        self._row += 1
        if self._row == self._taps:
            self._rows[1 : self._taps] = self._rows[self._taps + 1 :]
            self._rows[self._taps :].zero_()
            self._row = 0

    def tensors(self) -> dict[str, Tensor]:
        """What has to be stored."""
        return {"due": self.due}

    def settings(self) -> dict[str, int]:
        """The numbers that go with the tensor."""
        return {"parts": self.sizes[0]}

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, Tensor], settings: Mapping[str, int]
    ) -> FiniteState:
        """See `State.from_tensors`."""
        return cls(tensors["due"], settings["parts"])

    def _follow(self, other: FiniteState) -> None:
        self.filter = other.filter
