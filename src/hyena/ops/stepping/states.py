"""What all states of generation have in common: they are values, copied, cut and joined."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hyena.arguments import shown
from hyena.ops.arguments import checked_device

if TYPE_CHECKING:
    from typing_extensions import Self

Rows = Tensor | Sequence[int]


@contextmanager
def normal_tensors() -> Iterator[None]:
    """What is made here can be written to in place, in inference mode and outside, and has no
    gradient."""
    with torch.inference_mode(False), torch.no_grad():
        yield


class State:
    """B rows in the middle of a sequence; each kind has its `tensors` and can be made of them."""

    def tensors(self) -> dict[str, Tensor]:
        """What has to be stored, by name, the batch first."""
        raise NotImplementedError

    def settings(self) -> dict[str, int]:
        """The numbers that have to be stored with it."""
        return {}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], settings: Mapping[str, int]) -> Self:
        """The state that the tensors and settings were of, which takes the tensors over."""
        raise NotImplementedError

    def copy(self) -> Self:
        """The same in memory of its own."""
        return self._of(torch.clone)

    def __copy__(self) -> Self:
        return self.copy()  # in shared memory a step of one would change the other

    def select(self, rows: Rows) -> Self:
        """The rows of these indices, in this order and with repeats, in memory of their own.

        Raises: ValueError unless they are a list of rows that are there.
        """
        like = self._first()
        index = index_of(type(self).__name__, rows, len(like), like.device)
        return self._of(lambda x: x.index_select(0, index))

    def to(self, device: torch.device | str) -> Self:
        """The same on a device; itself, if it is there.

        Raises: ValueError if nothing is called so.
        """
        like, device = self._first(), checked_device(f"{type(self).__name__}.to", device)
        return self if like.to(device) is like else self._of(lambda x: x.to(device))

    @classmethod
    def join(cls, states: Sequence[Self]) -> Self:
        """All rows, one state's after the other's.

        Raises: ValueError if the states differ in anything but their rows.
        """
        parts = [state.tensors() for state in states]
        check_alike(cls.__name__, parts, [state.settings() for state in states])
        with normal_tensors():
            whole = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
            return states[0]._made_of(whole)

    @classmethod
    def gather(cls, states: Sequence[Self], shifts: Sequence[int]) -> Self:
        """As `join`, of rows at positions of their own.

        Args: shifts: for each state, how many columns its tokens go to the right, or where it is
            negative to the left; of no concern to a state that does not count them.
        """
        return cls.join(states)

    def _of(self, change: Callable[[Tensor], Tensor]) -> Self:
        with normal_tensors():
            return self._made_of({name: change(x) for name, x in self.tensors().items()})

    def _made_of(self, tensors: Mapping[str, Tensor]) -> Self:
        other = self.from_tensors(tensors, self.settings())
        if other._first().device == self._first().device:
            other._follow(self)
        return other

    def _follow(self, other: Self) -> None:
        """Takes over what another on the same device has found besides."""

    def _first(self) -> Tensor:
        return next(iter(self.tensors().values()))


def index_of(name: str, rows: Rows, batch: int, device: torch.device) -> Tensor:
    """The indices as an int64 tensor (rows,) on the device.

    Raises: ValueError unless they are whole numbers from 0 to batch − 1, one after the other.
    """
    expected = f"{name}.select: expected a list of indices below {batch}, the number of rows, got "
    try:
        index = torch.as_tensor(rows, device=device)
        whole = not (index.is_floating_point() or index.is_complex() or index.dtype == torch.bool)
    except (TypeError, ValueError, RuntimeError):  # of numbers beyond 64 bits as well
        whole, index = False, torch.empty(1)
    if index.dim() != 1 or not (whole or index.numel() == 0):
        raise ValueError(expected + shown(rows))
    index = index.to(torch.int64)
    outside = index[(index < 0) | (index >= batch)]
    if outside.numel():
        raise ValueError(expected + str(int(outside[0])))
    return index


def check_alike(
    name: str, tensors: Sequence[Mapping[str, Tensor]], settings: Sequence[Mapping[str, int]]
) -> None:
    """Whether states can be joined: equal but for the first dimension of their tensors.

    Raises: ValueError if they differ elsewhere, or if there are none.
    """
    if not tensors:
        raise ValueError(f"{name}.join: expected at least one state, got none")
    for other in settings[1:]:
        if other != settings[0]:
            raise ValueError(
                f"{name}.join: the states differ, {dict(settings[0])} and {dict(other)}; join "
                "states of equally long prompts, prefilled alike, after equally many steps"
            )
    for these in tensors[1:]:
        for key in sorted(tensors[0].keys() | these.keys()):
            one, other_one = tensors[0].get(key), these.get(key)
            if _kind(one) != _kind(other_one):
                raise ValueError(
                    f"{name}.join: the states differ in {key}, {_text(one)} and "
                    f"{_text(other_one)}; join states of one model, at the same position"
                )


def _kind(x: Tensor | None) -> tuple[object, ...] | None:
    return None if x is None else (x.shape[1:], x.dtype, x.device)


def _text(x: Tensor | None) -> str:
    return "none" if x is None else f"{tuple(x.shape)} of {x.dtype} on {x.device}"
