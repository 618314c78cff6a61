"""The lengths that a cell is trained at, one after the other, and the batch of every step."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from hyena.experiments.cell import CellConfig
from hyena.experiments.random_streams import Stream, generator
from hyena.tasks import Batch, Task, build_task


@dataclass(frozen=True)
class Phase:
    """Steps at one length.

    Attributes:
        task: the task at this length.
        sequences: in a step's batch.
        first: steps done before it, counted over all phases.
        end: steps done after it.
    """

    task: Task
    sequences: int
    first: int
    end: int


def build_phases(config: CellConfig) -> list[Phase]:
    """The stages, then the task's own length, which may have no steps. Raises: as `build_task`."""
    found: list[Phase] = []
    done = 0
    for length, steps in config.training.stages:
        task = build_task(replace(config.task, length=length))
        found.append(Phase(task, config.training.sequences(task.length), done, done + steps))
        done += steps
    task = build_task(config.task)
    steps = config.training.own_steps(task.length)
    return [*found, Phase(task, config.training.sequences(task.length), done, done + steps)]


class TrainingBatches:
    """The batch of each step: a pure function of the seed and the step.

    Args: the cell and its phases.
    """

    def __init__(self, config: CellConfig, phases: list[Phase]) -> None:
        self._seed = config.seed
        self._phases = phases
        self._samples: Batch | None = None
        if config.training.samples is not None:  # then there is one phase
            draw = generator(config.seed, Stream.SAMPLES)
            self._samples = phases[0].task.sample(config.training.samples, draw, "train")

    def batch(self, step: int) -> Batch:
        """What the update after ``step`` updates is computed from."""
        phase = next(phase for phase in self._phases if step < phase.end)
        if self._samples is None:
            draw = generator(self._seed, Stream.TRAINING, step)
            return phase.task.sample(phase.sequences, draw, "train")
        count = len(self._samples.inputs)
        epoch, part = divmod(step, -(-count // phase.sequences))
        order = torch.randperm(count, generator=generator(self._seed, Stream.ORDER, epoch))
        return rows(self._samples, order[part * phase.sequences : (part + 1) * phase.sequences])


def rows(batch: Batch, index: torch.Tensor | slice) -> Batch:
    """Some sequences of a batch."""
    return Batch(*(column[index] for column in batch))


def micro_batches(batch: Batch, tokens: int) -> list[Batch]:
    """The batch in parts of at most so many tokens, or of one sequence."""
    count, length = batch.inputs.shape[:2]
    size = max(1, tokens // max(1, length))
    return [rows(batch, slice(i, i + size)) for i in range(0, count, size)]
