"""What every task offers, and which tasks there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch

from hyena.tasks.addition import Addition
from hyena.tasks.batch import Batch
from hyena.tasks.config import READS, TaskConfig
from hyena.tasks.counting import Counting
from hyena.tasks.induction import InductionHead
from hyena.tasks.linear_functions import LinearFunctions
from hyena.tasks.majority import Majority
from hyena.tasks.multi_query_recall import MultiQueryRecall
from hyena.tasks.recall import AssociativeRecall
from hyena.tasks.recall_plain import PlainRecall
from hyena.tasks.splits import Split


class Task(Protocol):
    """Prompts with answers, drawn without end; training and test prompts never coincide."""

    name: str
    """The task's name in `TASKS`."""
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


TASKS: dict[str, str] = {
    "recall": "key-value pairs, =>, a key: answer its value, laid out as in the public code",
    "recall-plain": "key-value pairs, then a key: answer its value",
    "multi-query-recall": "key-value pairs, then every key once more: answer their values",
    "induction": "text with a trigger, then the trigger: copy what followed it",
    "majority": "answer the token that fills more than half of the prompt",
    "counting": "answer how often the last token occurs",
    "linear-functions": "vectors and values of a linear function, then a vector: its value",
    "addition": "two numbers by their digits: the digits of their sum",
}
"""What each task asks, by name."""

_CLASSES: dict[str, Callable[..., Task]] = {
    "recall": AssociativeRecall,
    "recall-plain": PlainRecall,
    "multi-query-recall": MultiQueryRecall,
    "induction": InductionHead,
    "majority": Majority,
    "counting": Counting,
    "linear-functions": LinearFunctions,
    "addition": Addition,
}


def build_task(config: TaskConfig) -> Task:
    """The task that the config names, of its sizes.

    Raises: ValueError, one line, for sizes that the task cannot have.
    """
    return _CLASSES[config.name](**{field: getattr(config, field) for field in READS[config.name]})
