"""A cell of an experiment: one model, trained on one task, from one seed."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hyena.experiments.training import TaskTraining
from hyena.files.records import flatten, to_plain
from hyena.model import ModelConfig
from hyena.model.reads import without_effect
from hyena.tasks import Task, TaskConfig, build_task

OF_TASK = 1
"""In model.vocab_size and model.max_length: the task's own figure. (No task fits a model of one
token or one position, so that 1 can mean nothing else there.)"""

# Fields that decide where and how fast a cell runs, not which one it is.
FREE = frozenset({"out", "threads", "training.checkpoint_minutes"})


def _model() -> ModelConfig:
    return ModelConfig(vocab_size=OF_TASK, max_length=OF_TASK, width=64, layers=2)


@dataclass
class CellConfig:
    """One training and its measurement.

    The same fields give the same weights on the same machine, threads, version of PyTorch and build
    of the kernel.
    """

    out: Path
    """Folder of the cell: its checkpoint and, when it is finished, result.json."""
    task: TaskConfig = field(default_factory=TaskConfig)
    """What is to be learned."""
    model: ModelConfig = field(default_factory=_model)
    """The model. Its vocab_size and max_length are the task's unless they are given, for which 1
    stands; a max_length below the task's length needs a length_policy."""
    training: TaskTraining = field(default_factory=TaskTraining)
    """How it is trained and measured."""
    seed: int = 0
    """Seed of the initial weights, the training and test sequences, and dropout."""
    threads: int | None = None
    """Threads to compute with; none takes PyTorch's number. Another number rounds differently."""

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**64:
            raise ValueError(f"seed is {self.seed}; it must be at least 0 and below 2^64")
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads is {self.threads}; it must be at least 1")


def model_config(config: CellConfig, tasks: list[Task]) -> ModelConfig:
    """The cell's model with the figures that come from the task.

    Args: the cell; its task at each of the lengths that it is trained at.

    Raises: ValueError if a figure that is given does not fit the task, or an option has no effect.
    """
    model, own = config.model, build_task(config.task)
    longest = max(task.length for task in [*tasks, own])
    vocab = max(1, own.vocab_size)
    if model.vocab_size not in (OF_TASK, vocab):
        raise ValueError(
            f"model.vocab_size is {model.vocab_size}, but {config.task.name} has {vocab} tokens; "
            "leave it out"
        )
    length = longest if model.max_length == OF_TASK else model.max_length
    if length < longest and model.length_policy == "error":
        raise ValueError(
            f"model.max_length is {length}, but sequences of {config.task.name} are {longest} "
            "tokens long here; leave it out, or choose a model.length_policy"
        )
    unread = without_effect(model)
    if unread:
        raise ValueError(
            f"model.{unread[0]} has no effect on a model of {', '.join(_parts(model))}; leave it "
            "out, and in a sweep set it in the rows that read it"
        )
    return replace(model, vocab_size=vocab, max_length=length)


def _parts(model: ModelConfig) -> list[str]:
    """Mixers, and the kind of filter in Hyena operators."""
    mixers = list(dict.fromkeys(model.layer_mixers()))
    kind = f"hyena with {model.filter.kind} filters"
    return [kind if name == "hyena" else name for name in mixers]


def plain(config: CellConfig) -> dict[str, Any]:
    """The cell as it stands in a JSON file."""
    return dict(json.loads(json.dumps(to_plain(config))))


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What tells two plain cells apart, apart from `FREE` fields; one string a field.

    A field that is missing, since a later version added it, is at its default.
    """
    defaults = flatten(plain(CellConfig(Path())))
    old, new = {**defaults, **flatten(before)}, {**defaults, **flatten(now)}
    return [
        f"{name} was {old.get(name)!r}, is {new.get(name)!r}"
        for name in sorted(old.keys() | new.keys())
        if name not in FREE and old.get(name) != new.get(name)
    ]


def options(config: CellConfig) -> list[str]:
    """The words after ``hyena tasks run`` that give this cell: all that is not a default."""
    defaults = flatten(plain(CellConfig(config.out)))
    words = [f"--out={config.out}"]
    for name, value in flatten(plain(config)).items():
        if value != defaults[name]:
            words.append(f"--{name}={word(value)}")
    return words


def word(value: Any) -> str:
    """A plain value as it is written on the command line."""
    return value if isinstance(value, str) else json.dumps(value)


def command(config: CellConfig) -> str:
    """The command line that runs this cell."""
    return "hyena tasks run " + shlex.join(options(config))
