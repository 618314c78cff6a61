r"""Convolutions with sums of exponentials, one position at a time in constant memory.

A filter h_t = 2 Re Σ_i w_i a_i^t is the recurrence x ← a·x + u, y = 2 Re Σ_i w_i x_i.

Sizes: B batch, F convolutions that take turns at each position, D channels of each, m numbers in
the state of a channel, of P parts each: 1 if they are real, 2 if they are complex.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from hyena.ops.arguments import check_tensor
from hyena.ops.native.step import NativeStep, RecurrentStep, takes
from hyena.ops.stepping.states import State, normal_tensors


class Recurrence(NamedTuple):
    """F filters of D channels as recurrences; made by `recurrence_of`. Complex numbers are in two
    planes, the real parts and the imaginary ones, so that channels lie side by side; real ones in
    one."""

    decay: Tensor  # (F, P, m, 1, D): a
    weight: Tensor  # (F, P, m, 1, D): what the real and imaginary parts of x count for
    skip: Tensor  # (F, D)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """(F, D, n): n = P·m real numbers are the state of a channel."""
        parts, planes, modes, _, width = self.decay.shape
        return parts, width, planes * modes

    def fits(self, state: RecurrentState) -> bool:
        """Whether it is a state of such filters."""
        parts, planes, modes, _, width = self.decay.shape
        return state.x.shape[1:] == (parts, width, modes, planes)


def recurrence_of(decay: Tensor, weight: Tensor, skip: Tensor) -> Recurrence:
    """The recurrence of h_t = 2 Re Σ weight · decay^t and a direct path.

    Args: decay and weight (F, D, m), both complex or both real; skip (F, D).
    Raises: TypeError on what is no tensor; ValueError on other shapes.
    """

    for name, x in (("decay", decay), ("weight", weight), ("skip", skip)):
        check_tensor("recurrence_of", name, x)
    fit = decay.dim() == 3 and decay.shape == weight.shape and decay.shape[:2] == skip.shape
    if not (fit and decay.is_complex() == weight.is_complex()):
        raise ValueError(
            "recurrence_of: expected decay and weight (F, D, n/2), complex, or (F, D, n), real, "
            f"and skip (F, D), got {tuple(decay.shape)} of {decay.dtype}, {tuple(weight.shape)} of "
            f"{weight.dtype} and {tuple(skip.shape)}"
        )

    def planes(x: Tensor) -> Tensor:
        parts = torch.view_as_real(x.resolve_conj()) if x.is_complex() else x[..., None]
        return parts.permute(0, 3, 2, 1)[:, :, :, None].contiguous()

    weight = 2 * planes(weight.conj())
    return Recurrence(planes(decay), weight, skip.to(weight.dtype).contiguous())


class RecurrentState(State):
    """F convolutions in the middle of a sequence, for B rows; advanced in place.

    Args: x (B, F, D, m, P), the states, of complex numbers the real and imaginary parts.
    Attributes: ``filter``, the `Recurrence`, None until it is set; ``full``, never: any number of
        positions may come.
    """

    full = False

    def __init__(self, x: Tensor) -> None:
        check_tensor("RecurrentState", "x", x)
        if x.dim() != 5 or x.shape[-1] not in (1, 2):
            raise ValueError(
                "RecurrentState: expected x (B, F, D, n/2, 2), or (B, F, D, n, 1) of real numbers, "
                f"got {tuple(x.shape)}"
            )
        self.filter: Recurrence | None = None
        planes = x.permute(1, 4, 3, 0, 2).contiguous()
        self._planes = planes.clone() if planes.data_ptr() == x.data_ptr() else planes

    @property
    def x(self) -> Tensor:
        """The states, (B, F, D, m, P)."""
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
        if len(x) == 1:
            x[0] = torch.addcmul(u, x[0], decay[0])
        else:
            real = torch.addcmul(torch.addcmul(u, x[0], decay[0]), x[1], decay[1], value=-1)
            x[1] = torch.addcmul(x[1] * decay[0], x[0], decay[1])
            x[0] = real
        return torch.addcmul((x * weight).sum((0, 1)), skip, u)

    def native(self, short: tuple[Tensor, Tensor]) -> NativeStep | None:
        """As of `hyena.ops.stepping.online.OnlineState`."""
        if self.filter is None or not takes(*self.filter, self._planes):
            return None
        decay, weight, skip = self.filter
        states = self._planes
        if states.shape[1] == 1:
            # The kernel's numbers are complex: beside real ones stand zeros, and stay zero.
            with normal_tensors():
                decay, weight, states = (
                    torch.cat([x, torch.zeros_like(x)], dim=1) for x in (decay, weight, states)
                )
            self._planes = states[:, :1]
        return NativeStep(RecurrentStep(short, decay, weight, skip, states), tuple)

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
