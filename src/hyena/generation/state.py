"""What a language model remembers of the tokens so far, as a value."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from hyena.arguments import check_whole
from hyena.mixers.hyena.state import HyenaState
from hyena.mixers.state import MixerState
from hyena.ops.stepping.states import Rows, index_of


class ModelState:
    """The states of a model's layers; advanced in place by `hyena.LanguageModel`.

    Attributes:
        layers: the state of each layer, from the first; see `hyena.mixers.state.MixerState`.
        length: tokens so far, padding included.
        whole: False after an error in the middle of a step, which nothing can go on from.
        starts: (B,) int64, the column of each row's first token, after `gather`; None if that is
            the first column in all.
    """

    def __init__(
        self,
        layers: Iterable[MixerState],
        length: int,
        *,
        whole: bool = True,
        starts: Tensor | None = None,
    ) -> None:
        self.layers, self.length, self.whole = list(layers), length, whole
        self.starts = starts

    def __repr__(self) -> str:
        batch = self.layers[0].batch if self.layers else 0
        return f"ModelState(batch={batch}, length={self.length}, layers={len(self.layers)})"

    @property
    def grows(self) -> bool:
        """Whether any number of tokens may follow, not just those that a prefill planned for."""
        return all(getattr(layer, "grows", True) for layer in self.layers)

    def copy(self) -> ModelState:
        """The same in memory of its own, to go on in two ways."""
        return self._with((layer.copy() for layer in self.layers), self.starts)

    __copy__ = copy  # in shared memory one of the two would be wrong after a step of the other

    def select(self, rows: Rows) -> ModelState:
        """The sequences of these indices, in this order and with repeats; memory of its own.

        To drop sequences that have ended, to split a batch, for beams.

        Raises: ValueError unless they are a list of integers from 0 to B − 1.
        """
        index = index_of("ModelState", rows, self.layers[0].batch, torch.device("cpu"))
        starts = None if self.starts is None else self.starts[index.to(self.starts.device)]
        return self._with((layer.select(index) for layer in self.layers), starts)

    def limit(self, future: int) -> None:
        """Gives back the memory of what a prefill planned beyond ``future`` more tokens."""
        future = check_whole("future", future, 0, None)
        for layer in self.layers:
            if isinstance(layer, HyenaState):
                layer.limit(future)

    def to(self, device: torch.device | str) -> ModelState:
        """The same on a device; its layers are not copied where they are there already.

        Raises: ValueError if nothing is called so.
        """
        starts = None if self.starts is None else self.starts.to(device)
        return self._with((layer.to(device) for layer in self.layers), starts)

    @staticmethod
    def join(states: Sequence[ModelState]) -> ModelState:
        """The sequences of all states as one batch, in order.

        Raises: ValueError if there are none, or if they are not all of one model, prefilled alike
            (prompts of one length, padding included) and after equally many steps; TypeError on
            what is no state.
        """
        _check_kinds("join", states)
        if any(state.starts is not None for state in states):
            raise ValueError(
                "ModelState.join: a state has rows at positions of their own; ModelState.gather "
                "takes such"
            )
        lengths = sorted({state.length for state in states})
        if len(lengths) > 1:
            raise ValueError(
                f"ModelState.join: the states are after {', '.join(map(str, lengths))} tokens; "
                "join states at one position, of prompts padded to one length"
            )
        layers = zip(*(state.layers for state in states), strict=True)
        joined = (type(of[0]).join(of) for of in layers)
        return ModelState(joined, lengths[0], whole=all(state.whole for state in states))

    @staticmethod
    def gather(states: Sequence[ModelState]) -> ModelState:
        """The sequences of all states as one batch, in order, each at a position of its own.

        They end in one column; before those with fewer tokens stands padding, which no token sees.
        So requests of different lengths can run together, and join and leave after any token. A
        row may be fed as many tokens as its own prefill planned for, though the batch takes as
        many as the longest plan: beyond, what the row gives means nothing. One state may be
        gathered alone, which takes away what padding its rows have in common.

        Raises: TypeError and ValueError as `join`, but for positions; ValueError if Hyena layers
            keep inputs, as without ``future`` in `hyena.LanguageModel.prefill`.
        """
        _check_kinds("gather", states)
        starts = [state._starts() for state in states]
        each = zip(states, starts, strict=True)
        length = max(state.length - int(first.min()) for state, first in each)
        shifts = [length - state.length for state in states]
        layers = zip(*(state.layers for state in states), strict=True)
        gathered = [type(of[0]).gather(of, shifts) for of in layers]
        columns = torch.cat([s + shift for s, shift in zip(starts, shifts, strict=True)])
        whole = all(state.whole for state in states)
        own = columns if bool(columns.any()) else None
        return ModelState(gathered, length, whole=whole, starts=own)

    def _starts(self) -> Tensor:
        if self.starts is not None:
            return self.starts
        first = self.layers[0]
        return torch.zeros(first.batch, dtype=torch.int64, device=first.device)

    def _with(self, layers: Iterable[MixerState], starts: Tensor | None) -> ModelState:
        return ModelState(layers, self.length, whole=self.whole, starts=starts)


def _check_kinds(what: str, states: Sequence[ModelState]) -> None:
    """Raises ValueError unless there are states, of one model; TypeError if one is none."""
    if not states:
        raise ValueError(f"ModelState.{what}: expected at least one state, got none")
    for state in states:
        if not isinstance(state, ModelState):
            raise TypeError(f"ModelState.{what}: expected ModelStates, got {type(state).__name__}")
    kinds = {tuple(type(layer) for layer in state.layers) for state in states}
    if len(kinds) > 1:
        raise ValueError(f"ModelState.{what}: the states are of different models")
