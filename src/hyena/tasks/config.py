"""Which task, and how hard."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from inspect import signature

from hyena.ops.arguments import shown
from hyena.tasks.task import CLASSES, Task

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
            raise ValueError(f"task.name: expected one of {', '.join(READS)}, got {self.name!r}")
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
