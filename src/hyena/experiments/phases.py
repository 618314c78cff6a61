"""The phases that a cell is trained in, one after the other, and the batch of every step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import torch

from hyena.experiments.cell import CellConfig
from hyena.experiments.random_streams import Stream, generator
from hyena.experiments.training import Stage
from hyena.tasks import Batch, Task, build_task
from hyena.tasks.config import READS


@dataclass(frozen=True)
class Phase:
    """Steps at one length.

    Attributes:
        task: the task at this length, with all its keys.
        sequences: in a step's batch.
        steps: at most.
        stage: what it comes from, None for the last phase.
    """

    task: Task
    sequences: int
    steps: int
    stage: Stage | None = None


def build_phases(config: CellConfig) -> list[Phase]:
    """The stages, then what comes after them, which may have no steps.

    Raises: ValueError as `build_task`, or for a stage that the task cannot have.
    """
    _check(config)
    own = build_task(config.task)
    found: list[Phase] = []
    for number, stage in enumerate(config.training.stages, start=1):
        try:
            task = build_task(replace(config.task, length=stage.length))
        except ValueError as error:
            raise ValueError(f"training.stages: stage {number}: {error}") from error
        most = getattr(task, "keys", 0)
        if stage.keys is not None and stage.keys > most:
            raise ValueError(
                f"training.stages: stage {number}: keys is {stage.keys}, but {config.task.name} "
                f"has {most} with this vocabulary; give at most {most}, or a larger "
                "task.vocab_size"
            )
        if stage.until is not None and task.features:
            raise ValueError(
                f"training.stages: until is a share of right answers, but {config.task.name} is "
                "measured by its squared error; leave it out"
            )
        sequences = config.training.sequences(task.length)
        found.append(Phase(task, sequences, stage.steps, stage))
    length = config.training.length
    try:
        task = own if length is None else build_task(replace(config.task, length=length))
    except ValueError as error:
        raise ValueError(f"training.length: {error}") from error
    steps = config.training.own_steps(task.length)
    return [*found, Phase(task, config.training.sequences(task.length), steps)]


def _check(config: CellConfig) -> None:
    """Raises ValueError if the task cannot be trained in these stages."""
    task, training = config.task, config.training
    if "length" not in READS[task.name] and (training.stages or training.length):
        raise ValueError(
            f"training.stages and training.length have no effect on {task.name}, whose prompts "
            "are as long as its numbers; leave them out"
        )
    if "most_keys" not in READS[task.name] and any(stage.keys for stage in training.stages):
        raise ValueError(
            f"training.stages: keys has no effect on {task.name}; it is of recall and recall-plain"
        )
    if (task.most_keys or task.alphabet) and any(stage.keys for stage in training.stages):
        raise ValueError(
            "training.stages: keys begins with few of all the keys, but the task itself has few; "
            "leave out task.most_keys and task.alphabet, or keys"
        )


class TrainingBatches:
    """The batch of each step: a pure function of the seed, the step, its phase and its keys.

    Args: the cell and its phases.
    """

    def __init__(self, config: CellConfig, phases: list[Phase]) -> None:
        self._config = config
        self._phases = phases
        self._samples: Batch | None = None
        self._task = cache(self._build_task)
        if config.training.samples is not None:  # then there is one phase
            draw = generator(config.seed, Stream.SAMPLES)
            self._samples = phases[0].task.sample(config.training.samples, draw, "train")

    def batch(self, step: int, phase: int = 0, keys: int | None = None) -> Batch:
        """What the update after ``step`` updates is computed from.

        Args: updates done; the phase's number; most different keys in a sequence, None for all.
        """
        seed, sequences = self._config.seed, self._phases[phase].sequences
        if self._samples is None:
            draw = generator(seed, Stream.TRAINING, step)
            return self._task(phase, keys).sample(sequences, draw, "train")
        count = len(self._samples.inputs)
        epoch, part = divmod(step, -(-count // sequences))
        order = torch.randperm(count, generator=generator(seed, Stream.ORDER, epoch))
        return rows(self._samples, order[part * sequences : (part + 1) * sequences])

    def _build_task(self, phase: int, keys: int | None) -> Task:
        stage = self._phases[phase].stage
        if stage is None or keys is None:
            return self._phases[phase].task
        return _task_of_few_keys(self._config, stage.length, keys)


def _task_of_few_keys(config: CellConfig, length: int, keys: int) -> Task:
    task = replace(config.task, length=length)
    if config.training.few_keys == "random":
        return build_task(replace(task, most_keys=keys))
    return build_task(replace(task, alphabet=keys))


def rows(batch: Batch, index: torch.Tensor | slice) -> Batch:
    """Some sequences of a batch."""
    return Batch(*(column[index] for column in batch))


def micro_batches(batch: Batch, tokens: int) -> list[Batch]:
    """The batch in parts of at most so many tokens, or of one sequence."""
    count, length = batch.inputs.shape[:2]
    size = max(1, tokens // max(1, length))
    return [rows(batch, slice(i, i + size)) for i in range(0, count, size)]
