"""What every task offers, and which tasks there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch

from hyena.tasks.addition import Addition
from hyena.tasks.batch import Batch
from hyena.tasks.induction import InductionHead
from hyena.tasks.linear_functions import LinearFunctions
from hyena.tasks.multi_query_recall import MultiQueryRecall
from hyena.tasks.recall import AssociativeRecall, PlainRecall
from hyena.tasks.repeated import Counting, Majority
from hyena.tasks.splits import Split


class Task(Protocol):
    """Prompts with answers, drawn without end; training and test prompts never coincide."""

    name: str
    """The task's name in `TASKS`."""
    asks: str
    """What it asks, in a line without a full stop."""
    vocab_size: int
    """Tokens that a model of it needs, 0 if the inputs are real-valued."""
    features: int
    """E, features of a position, 0 if the inputs are tokens."""
    length: int
    """T, positions of `Batch.inputs`."""

    def sample(self, count: int, generator: torch.Generator, split: Split) -> Batch:
        """Draws ``count`` prompts on the CPU, by the generator's randomness alone.

        Raises: ValueError for a count below 1, for a split other than train and test, and where
            there are too few different prompts to split.
        """
        ...

    def show(self, batch: Batch, row: int) -> str:
        """A prompt of `sample` and its answer for a person; "…" stands for the middle of a long
        one."""
        ...


_TYPES: tuple[type[Task], ...] = (
    AssociativeRecall,
    PlainRecall,
    MultiQueryRecall,
    InductionHead,
    Majority,
    Counting,
    LinearFunctions,
    Addition,
)
CLASSES: dict[str, Callable[..., Task]] = {task.name: task for task in _TYPES}
"""The class of each task, by name."""

TASKS: dict[str, str] = {task.name: task.asks for task in _TYPES}
"""What each task asks, by name."""
