"""What a language model remembers of the tokens so far, as a value."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from hyena.mixers.state import MixerState
from hyena.ops.stepping.states import Rows, index_of


class ModelState:
    """The states of a model's layers; advanced in place by `hyena.LanguageModel`.

    Attributes:
        layers: the state of each layer, from the first; see `hyena.mixers.state.MixerState`.
        length: tokens so far, padding included.
        whole: False after an error in the middle of a step, which nothing can go on from.
    """

    def __init__(self, layers: Iterable[MixerState], length: int, *, whole: bool = True) -> None:
        self.layers, self.length, self.whole = list(layers), length, whole

    def __repr__(self) -> str:
        batch = self.layers[0].batch if self.layers else 0
        return f"ModelState(batch={batch}, length={self.length}, layers={len(self.layers)})"

    @property
    def grows(self) -> bool:
        """Whether any number of tokens may follow, not just those that a prefill planned for."""
        return all(getattr(layer, "grows", True) for layer in self.layers)

    def copy(self) -> ModelState:
        """The same in memory of its own, to go on in two ways."""
        return self._with(layer.copy() for layer in self.layers)

    __copy__ = copy  # in shared memory one of the two would be wrong after a step of the other

    def select(self, rows: Rows) -> ModelState:
        """The sequences of these indices, in this order and with repeats; memory of its own.

        To drop sequences that have ended, to split a batch, for beams.

        Raises: ValueError unless they are a list of integers from 0 to B − 1.
        """
        index = index_of("ModelState", rows, self.layers[0].batch, torch.device("cpu"))
        return self._with(layer.select(index) for layer in self.layers)

    def to(self, device: torch.device | str) -> ModelState:
        """The same on a device; its layers are not copied where they are there already.

        Raises: ValueError if nothing is called so.
        """
        return self._with(layer.to(device) for layer in self.layers)

    @staticmethod
    def join(states: Sequence[ModelState]) -> ModelState:
        """The sequences of all states as one batch, in order.

        Raises: ValueError if there are none, or if they are not all of one model, prefilled alike
            (prompts of one length, padding included) and after equally many steps; TypeError on
            what is no state.
        """
        if not states:
            raise ValueError("ModelState.join: expected at least one state, got none")
        for state in states:
            if not isinstance(state, ModelState):
                raise TypeError(
                    f"ModelState.join: expected ModelStates, got {type(state).__name__}"
                )
        lengths = sorted({state.length for state in states})
        if len(lengths) > 1:
            raise ValueError(
                f"ModelState.join: the states are after {', '.join(map(str, lengths))} tokens; "
                "join states at one position, of prompts padded to one length"
            )
        kinds = {tuple(type(layer) for layer in state.layers) for state in states}
        if len(kinds) > 1:
            raise ValueError("ModelState.join: the states are of different models")
        layers = zip(*(state.layers for state in states), strict=True)
        joined = (type(of[0]).join(of) for of in layers)
        return ModelState(joined, lengths[0], whole=all(state.whole for state in states))

    def _with(self, layers: Iterable[MixerState]) -> ModelState:
        return ModelState(layers, self.length, whole=self.whole)
