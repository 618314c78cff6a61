"""A cell of an experiment: one model, trained on one task in one way, from one seed."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from hyena.arguments import LONGEST
from hyena.files.records import differences, flatten, from_plain, to_plain
from hyena.model import ModelConfig
from hyena.model.build import layers_in_words, without_effect
from hyena.tasks import Task, TaskConfig, build_task
from hyena.training import OptimizerConfig
from hyena.training.limits import (
    check,
    check_choice,
    check_least,
    check_most,
    check_positive,
    check_seed,
    check_share,
)

Schedule = Literal["cosine", "constant", "linear"]
FewKeys = Literal["random", "first"]


@dataclass
class Stage:
    """Steps at another length first, at the peak of the learning rate.

    Raises: ValueError if a value cannot be.
    """

    length: int
    """Length of the task's sequences."""
    steps: int
    """Optimizer steps, at most."""
    until: float | None = None
    """Go on to the next stage when this share of the last 256 answers in training was right."""
    keys: int | None = None
    """recall and recall-plain: begin with sequences of at most so many different keys, which
    training.few_keys chooses, and go to one more each time that a share of more_keys_at of the last
    256 answers was right. Before its steps run out, the stage goes on only with all keys."""
    more_keys_at: float = 0.75
    """See keys."""

    def __post_init__(self) -> None:
        of = "training.stages."
        check_least(self, {"length": 1, "steps": 1, "keys": 2}, of)
        check_share(self, "until", "more_keys_at", of=of)
        if self.keys is None and self.more_keys_at != type(self).more_keys_at:
            raise ValueError(
                f"training.stages: more_keys_at is {self.more_keys_at}, but there are no keys to "
                "begin with; give keys too, or leave it out"
            )


@dataclass
class TaskTraining:
    """The training of one model on one task.

    Raises: ValueError if the values do not fit together.
    """

    protocol: str = "ours"
    """What tables call this way of training; says nothing else."""
    steps: int | None = 1000
    """Optimizer steps after the stages; none takes those of the epochs. 0 trains in the stages
    only."""
    length: int | None = None
    """Length of the sequences after the stages; none takes the task's own, which the test has in
    any case."""
    minutes: float | None = None
    """Training ends after so many minutes of training steps, if its steps have not ended it."""
    tokens_per_step: int = 16384
    """Tokens in a step, about: the batch is this divided by the length, rounded, and at least one
    sequence."""
    batch: int | None = None
    """Sequences in a step at any length, in place of tokens_per_step."""
    micro_tokens: int = 65536
    """A step's batch is cut into parts of at most so many tokens, or of one sequence; their
    gradients add up to the same one. It bounds the memory, in evaluation too."""
    stages: list[Stage] = field(default_factory=list)
    """The same task at other lengths first, one after the other."""
    few_keys: FewKeys = "random"
    """Which keys the sequences of a stage with few keys have: random, each a random set of its own;
    first, all of them the first keys of the vocabulary, and as many values."""
    samples: int | None = None
    """Train on a fixed set of so many sequences, in a new order each epoch; none draws fresh
    sequences at every step."""
    epochs: int | None = None
    """Times that the samples are gone through; needs samples, and steps=null."""
    optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(lr=2e-3))
    """AdamW and its parameter groups."""
    schedule: Schedule = "cosine"
    """Learning rate over the steps after the stages; at its peak in these."""
    warmup_steps: int = 50
    """Steps of a linear warm-up, stages included."""
    final_lr: float = 0.0
    """Where cosine and linear schedules end, as a share of the peak."""
    clip: float | None = 1.0
    """Largest global norm of the gradient; none means no clipping."""
    evaluate_every: int = 100
    """Measure on validation sequences after every so many steps, and at the end of each length."""
    validation_sequences: int = 128
    """Sequences for that, the same ones every time. They choose among settings, and are no test."""
    stop_at: float | None = None
    """Stop when the validation accuracy at the last length has been this two times in a row."""
    test_sequences: int = 500
    """Sequences of the test split that the trained model is measured on."""
    checkpoint_minutes: float = 3.0
    """Write a checkpoint after every so many minutes, and when a signal stops the run."""

    def __post_init__(self) -> None:
        of = "training."
        least = dict.fromkeys(("steps", "warmup_steps", "checkpoint_minutes"), 0)
        least |= dict.fromkeys(("length", "tokens_per_step", "batch", "micro_tokens"), 1)
        least |= dict.fromkeys(("samples", "epochs", "evaluate_every"), 1)
        least |= dict.fromkeys(("validation_sequences", "test_sequences"), 2)
        check_least(self, least, of)
        counts = ("batch", "tokens_per_step", "samples", "validation_sequences", "test_sequences")
        check_most(self, LONGEST, *counts, of=of)
        check_positive(self, "minutes", "clip", "optimizer.lr", of=of)
        check_choice(self, {"schedule": Schedule, "few_keys": FewKeys}, of)
        check(self, ["final_lr"], lambda x: 0 <= x <= 1, "a share, from 0 to 1", of)
        check_share(self, "stop_at", of=of)
        if self.few_keys != "random" and not any(stage.keys for stage in self.stages):
            raise ValueError(
                f"training.few_keys is {self.few_keys}, but no stage has few keys; give "
                "training.stages with keys, or leave it out"
            )
        self._check_length()

    def _check_length(self) -> None:
        """The fields that decide how long a training is."""
        if (self.steps is None) == (self.epochs is None):
            given = "neither is" if self.steps is None else "both are"
            raise ValueError(
                f"of training.steps and training.epochs {given} given; give one of them, and null "
                "for the other"
            )
        if self.epochs is not None and self.samples is None:
            raise ValueError(
                f"training.epochs is {self.epochs}, but there are no training.samples to go "
                "through; give their number"
            )
        if self.stages and self.samples is not None:
            raise ValueError(
                f"training.stages are of fresh sequences, but training.samples is {self.samples}; "
                "leave one of them out"
            )
        if self.steps == 0 and not self.stages:
            raise ValueError("training.steps is 0 and there are no training.stages; give either")

    def sequences(self, length: int) -> int:
        """Sequences in a step of sequences of ``length`` tokens."""
        if self.batch is not None:
            return self.batch
        # A length of 1,026 has as many as 1,024.
        return max(1, round(self.tokens_per_step / length))

    def own_steps(self, length: int) -> int:
        """Steps after the stages, of sequences of ``length`` tokens."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        assert self.samples is not None
        return self.epochs * -(-self.samples // self.sequences(length))

    def factor(self, step: int, own: int | None, steps: int) -> float:
        """What the learning rates' peaks are multiplied by in the update after ``step`` updates.

        Args:
            step: updates so far.
            own: those of them after the stages, None in a stage.
            steps: all that are to be done after them.
        """
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)  # not from 0, which would waste a step
        if own is None or self.schedule == "constant":
            return 1.0
        warm = max(0, self.warmup_steps - (step - own))  # of them in the warm-up
        share = (own - warm) / max(1, steps - warm)
        fall = 1 - share if self.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * share))
        return self.final_lr + (1 - self.final_lr) * fall


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
        check_seed(self)
        check_least(self, {"threads": 1})


def model_config(config: CellConfig, tasks: list[Task]) -> ModelConfig:
    """The cell's model with the figures that come from its ``tasks``: its task at each of the
    lengths that it is trained at.

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
            f"model.{unread[0]} has no effect on a model of {layers_in_words(model)}; leave it "
            "out, and in a sweep set it in the rows that read it"
        )
    return replace(model, vocab_size=vocab, max_length=length)


def plain(config: CellConfig) -> dict[str, Any]:
    """The cell as it stands in a JSON file."""
    return dict(to_plain(config))


def task_of(config: Mapping[str, Any]) -> TaskConfig:
    """The task of a plain cell; what an older record lacks is at its default.

    Raises: ValueError if it is none.
    """
    return from_plain(TaskConfig, config.get("task"), "task")


def check_same_cell(saved: dict[str, Any], config: CellConfig) -> None:
    """Refuses the folder of another cell, whose plain form is ``saved`` there.

    Raises: ValueError naming each field that differs: perhaps an option has got another default.
    """
    changed = differences(saved, plain(config), CellConfig(Path()), FREE)
    if changed:
        raise ValueError(
            f"{config.out} holds another cell: {'; '.join(changed)}. Use the old values, or "
            "another folder"
        )


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
