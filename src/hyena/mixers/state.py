"""What all states of generation have in common: they are values that can be copied, cut and joined.

A state is advanced by ``step``, which may write to it in place: go on with what ``step`` returned,
and copy it first to go on in two ways.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
from torch import Tensor

from hyena.ops.arguments import checked_device
from hyena.ops.stepping.states import Rows, check_alike, index_of

if TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T")


class MixerState(Protocol):
    """The state of one layer for the B sequences of a batch."""

    @property
    def batch(self) -> int:
        """B."""

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""

    @property
    def dtype(self) -> torch.dtype:
        """That of what it sums up; an input that is more precise would be rounded to it."""

    def copy(self) -> Self:
        """The same in memory of its own."""

    def select(self, rows: Rows) -> Self:
        """The sequences of these indices, in this order and with repeats; memory of its own."""

    def to(self, device: torch.device | str) -> Self:
        """The same on a device. Raises: ValueError if nothing is called so."""

    @classmethod
    def join(cls, states: Sequence[Self]) -> Self:
        """The sequences of all states, one after the other.

        Raises: ValueError if the states are of different sizes or at different positions.
        """

    @classmethod
    def gather(cls, states: Sequence[Self], shifts: Sequence[int]) -> Self:
        """As `join`, of rows at positions of their own; see `ModelState.gather`.

        Args: shifts: for each state, how many columns its tokens go to the right, or where it is
            negative to the left; of no concern to a state that does not count them.
        """

    def tensors(self) -> dict[str, Tensor]:
        """What has to be stored, by name, the batch first."""

    def settings(self) -> dict[str, int]:
        """The numbers that have to be stored with it."""

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], settings: Mapping[str, int]) -> Self:
        """The state that `tensors` and `settings` were of, which takes the tensors over.

        Raises: KeyError if one is missing; ValueError if they do not fit together.
        """


def tensor_state(cls: type[T]) -> type[T]:
    """Makes a NamedTuple of tensors, the batch their first dimension, a `MixerState`.

    For a state of one size, which a step replaces by a new one.
    """
    names: tuple[str, ...] = cls._fields  # type: ignore[attr-defined]

    def of_each(change: Callable[[Tensor], Tensor], state: Any) -> Any:
        return cls(*map(change, state))

    def select(state: Any, rows: Rows) -> Any:
        index = index_of(cls.__name__, rows, state.batch, state[0].device)
        return of_each(lambda x: x.index_select(0, index), state)

    def to(state: Any, device: torch.device | str) -> Any:
        there = checked_device(f"{cls.__name__}.to", device)
        return of_each(lambda x: x.to(there), state)

    def join(states: Sequence[Any]) -> Any:
        check_alike(cls.__name__, [x.tensors() for x in states], [x.settings() for x in states])
        return cls(*map(torch.cat, zip(*states, strict=True)))

    methods: dict[str, Any] = {
        "batch": property(lambda state: state[0].shape[0]),
        "device": property(lambda state: state[0].device),
        "dtype": property(lambda state: reduce(torch.promote_types, (x.dtype for x in state))),
        "copy": lambda state: of_each(torch.clone, state),
        "select": select,
        "to": to,
        "join": staticmethod(join),
        "gather": staticmethod(lambda states, shifts: join(states)),
        "tensors": lambda state: dict(zip(names, state, strict=True)),
        "settings": lambda state: {},
        "from_tensors": staticmethod(
            lambda tensors, settings: cls(*(tensors[name] for name in names))
        ),
    }
    for name, method in methods.items():
        setattr(cls, name, method)
    return cls
