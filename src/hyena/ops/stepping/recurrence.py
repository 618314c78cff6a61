r"""Convolutions with sums of exponentials, one position at a time in constant memory.

A filter h_t = 2 Re Σ_i w_i a_i^t is the recurrence x ← a·x + u, y = 2 Re Σ_i w_i x_i.

Sizes: B batch, F convolutions that take turns at each position, D channels of each, n numbers in
the state of a channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from hyena.ops.arguments import check_tensor
from hyena.ops.native.step import NativeStep, RecurrentStep, takes
from hyena.ops.stepping.states import State


class Recurrence(NamedTuple):
    """F filters of D channels as recurrences; made by `recurrence_of`. Complex numbers are in two
    planes, the real parts and the imaginary ones, so that channels lie side by side."""

    decay: Tensor  # (F, 2, n/2, 1, D): a
    weight: Tensor  # (F, 2, n/2, 1, D): what the real and imaginary parts of x count for
    skip: Tensor  # (F, D)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """(F, D, n)."""
        parts, _, modes, _, width = self.decay.shape
        return parts, width, 2 * modes


def recurrence_of(decay: Tensor, weight: Tensor, skip: Tensor) -> Recurrence:
    """The recurrence of h_t = 2 Re Σ weight · decay^t and a direct path.

    Args: decay and weight (F, D, n/2) complex; skip (F, D).
    Raises: TypeError on what is no tensor; ValueError on other shapes.
    """

    for name, x in (("decay", decay), ("weight", weight), ("skip", skip)):
        check_tensor("recurrence_of", name, x)
    fit = decay.dim() == 3 and decay.shape == weight.shape and decay.shape[:2] == skip.shape
    if not (fit and decay.is_complex() and weight.is_complex()):
        raise ValueError(
            "recurrence_of: expected decay and weight (F, D, n/2), complex, and skip (F, D), got "
            f"{tuple(decay.shape)} of {decay.dtype}, {tuple(weight.shape)} of {weight.dtype} and "
            f"{tuple(skip.shape)}"
        )

    def planes(x: Tensor) -> Tensor:
        return torch.view_as_real(x.resolve_conj()).permute(0, 3, 2, 1)[:, :, :, None].contiguous()

    weight = 2 * planes(weight.conj())
    return Recurrence(planes(decay), weight, skip.to(weight.dtype).contiguous())


class RecurrentState(State):
    """F convolutions in the middle of a sequence, for B rows; advanced in place.

    Args: x (B, F, D, n/2, 2), the states, real and imaginary parts.
    Attributes: ``filter``, the `Recurrence`, None until it is set; ``full``, never: any number of
        positions may come.
    """

    full = False

    def __init__(self, x: Tensor) -> None:
        check_tensor("RecurrentState", "x", x)
        if x.dim() != 5 or x.shape[-1] != 2:
            raise ValueError(f"RecurrentState: expected x (B, F, D, n/2, 2), got {tuple(x.shape)}")
        self.filter: Recurrence | None = None
        planes = x.permute(1, 4, 3, 0, 2).contiguous()
        self._planes = planes.clone() if planes.data_ptr() == x.data_ptr() else planes

    @property
    def x(self) -> Tensor:
        """The states, (B, F, D, n/2, 2)."""
        return self._planes.permute(3, 0, 4, 2, 1)

    @property
    def sizes(self) -> tuple[int, int]:
        """(F, D)."""
        return self._planes.shape[0], self._planes.shape[-1]

    @property
    def dtype(self) -> torch.dtype:
        """That of the states' parts."""
        return self._planes.dtype

    def step(self, part: int, gate: Tensor, value: Tensor) -> Tensor:
        """The output (B, D) of one of the convolutions, whose input is gate · value.

        Each takes its turn once; then comes `advance`.
        """
        assert self.filter is not None
        decay, weight, skip = (x[part] for x in self.filter)
        x = self._planes[part]
        u = gate * value
        real = torch.addcmul(torch.addcmul(u, x[0], decay[0]), x[1], decay[1], value=-1)
        x[1] = torch.addcmul(x[1] * decay[0], x[0], decay[1])
        x[0] = real
        return torch.addcmul((x * weight).sum((0, 1)), skip, u)

    def native(self, short: tuple[Tensor, Tensor]) -> NativeStep | None:
        """As of `hyena.ops.stepping.online.OnlineState`."""
        if self.filter is None or not takes(*self.filter, self._planes):
            return None
        return NativeStep(RecurrentStep(short, *self.filter, self._planes), tuple)

    def advance(self) -> None:
        """To the next position, for which there is nothing to do."""

    def tensors(self) -> dict[str, Tensor]:
        """What has to be stored."""
        return {"x": self.x}

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, Tensor], settings: Mapping[str, int]
    ) -> RecurrentState:
        """See `State.from_tensors`."""
        return cls(tensors["x"])

    def _follow(self, other: RecurrentState) -> None:
        self.filter = other.filter
