"""What every task offers, which tasks there are, and the choice of one and its sizes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import Protocol

import torch

from hyena.arguments import shown
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

READS: dict[str, tuple[str, ...]] = {
    name: tuple(signature(task).parameters) for name, task in CLASSES.items()
}
"""The fields of `TaskConfig` that each task reads: the keyword arguments of its class."""


@dataclass
class TaskConfig:
    """A task of `hyena.tasks.TASKS` and its sizes.

    Raises: ValueError for an unknown task, or for a field that the task does not read and that is
        not at its default; `build_task` checks the values.
    """

    name: str = "recall"
    """Task: recall, recall-plain, multi-query-recall, induction, majority, counting,
    linear-functions or addition."""
    length: int = 1024
    """Tokens of the prompt; of those before the question in recall, recall-plain and induction.
    Not read by linear-functions and addition."""
    vocab_size: int = 30
    """Tokens of the vocabulary, special ones included. Not read by linear-functions and addition,
    which has ten digits."""
    most_keys: int | None = None
    """recall and recall-plain: different keys in a sequence at most, which makes it easier; all
    keys of the vocabulary without it."""
    alphabet: int | None = None
    """recall and recall-plain: only so many keys, the first ones, and as many values occur in any
    sequence, which makes it easier in another way; the whole vocabulary without it."""
    pairs: int | None = None
    """multi-query-recall: key-value pairs, each of which is asked for once; without it as many as
    fit. linear-functions: values of the function that are asked for, each after those before it
    were shown; 2 · dimension + 1 without it."""
    copy_length: int = 1
    """induction: tokens to copy."""
    triggers: int = 1
    """induction: occurrences of the trigger before the last one."""
    dimension: int = 5
    """linear-functions: size of the vectors."""
    digits: int = 4
    """addition: digits of each summand."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or self.name not in READS:
            raise ValueError(
                f"task.name: expected one of {', '.join(READS)}, got {shown(self.name)}"
            )
        read = ("name", *READS[self.name])
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            same = type(value) is type(field.default) and value == field.default
            if field.name not in read and not same:
                raise ValueError(
                    f"task.{field.name}={shown(value)} has no effect on {self.name}, which reads "
                    f"{', '.join(READS[self.name])}; leave it out"
                )


def build_task(config: TaskConfig) -> Task:
    """The task that the config names, of its sizes.

    Raises: ValueError, one line, for sizes that the task cannot have.
    """
    return CLASSES[config.name](**{field: getattr(config, field) for field in READS[config.name]})
