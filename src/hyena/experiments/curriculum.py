"""The phases that a cell is trained in, the batch of every step, and when it goes on to the next.

Random numbers are pure functions of the cell's seed, what they are for, and the step. Nothing
random is left over from one step to the next, so that a resumed training is the uninterrupted one
without a random state in its checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import IntEnum
from functools import cache

import torch

from hyena.experiments.cell import CellConfig, Stage
from hyena.tasks import Batch, Task, build_task
from hyena.tasks.task import READS
from hyena.training.loop import seed_of


class Stream(IntEnum):
    """What random numbers are for."""

    WEIGHTS = 0
    TRAINING = 1
    SAMPLES = 2
    ORDER = 3
    VALIDATION = 4
    TEST = 5
    DROPOUT = 6


def generator(seed: int, stream: Stream, index: int = 0) -> torch.Generator:
    """A generator for a stream's ``index``-th draw, such as a step's."""
    return torch.Generator().manual_seed(seed_of(seed, stream, index))


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
    own, training = build_task(config.task), config.training
    found: list[Phase] = []
    for number, stage in enumerate(training.stages, start=1):
        at = f"training.stages: stage {number}"
        task = _of_length(config, stage.length, at)
        most = getattr(task, "keys", 0)
        if stage.keys is not None and stage.keys > most:
            raise ValueError(
                f"{at}: keys is {stage.keys}, but {config.task.name} has {most} with this "
                f"vocabulary; give at most {most}, or a larger task.vocab_size"
            )
        if stage.until is not None and task.features:
            raise ValueError(
                f"training.stages: until is a share of right answers, but {config.task.name} is "
                "measured by its squared error; leave it out"
            )
        found.append(Phase(task, training.sequences(task.length), stage.steps, stage))
    length = training.length
    task = own if length is None else _of_length(config, length, "training.length")
    last = Phase(task, training.sequences(task.length), training.own_steps(task.length))
    return [*found, last]


def _of_length(config: CellConfig, length: int, at: str) -> Task:
    try:
        return build_task(replace(config.task, length=length))
    except ValueError as error:
        raise ValueError(f"{at}: {error}") from error


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
    """The batch of each step of a cell: a pure function of its seed, the step, phase and keys."""

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

        Args:
            step: updates done.
            phase: its number.
            keys: most different keys in a sequence, None for all.
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
        task = replace(self._config.task, length=stage.length)
        if self._config.training.few_keys == "random":
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


ANSWERS = 256
"""The latest answers of the training that decide."""
FEWEST_STEPS = 20
"""And of how many steps they are at least, so that a large batch does not decide by chance."""


@dataclass
class Place:
    """Where a training stands among its phases; plain numbers, so that a checkpoint can hold it.

    Attributes:
        phase: number of the phase.
        step: updates done in it.
        keys: most different keys in a sequence of it, None for all.
        recent: (right, asked) of the latest steps, since the last time something changed.
    """

    phase: int = 0
    step: int = 0
    keys: int | None = None
    recent: list[tuple[int, int]] = field(default_factory=list)


def begin(phases: list[Phase], number: int) -> Place:
    """The place at the beginning of a phase."""
    stage = phases[number].stage
    return Place(number, keys=None if stage is None else stage.keys)


def advance(place: Place, phases: list[Phase], right: int, asked: int) -> Place:
    """The place after one more update, in whose batch so many answers were right."""
    phase, after = phases[place.phase], replace(place, step=place.step + 1)
    stage = phase.stage
    if stage is None:
        return after
    after.recent = _latest([*place.recent, (right, asked)])
    wanted = stage.until if place.keys is None else stage.more_keys_at
    share = _share(after.recent)
    if wanted is not None and share is not None and share >= wanted:
        if place.keys is None:
            return begin(phases, place.phase + 1)
        more = place.keys + 1
        after.keys = None if more >= getattr(phase.task, "keys", 0) else more
        after.recent = []
    return after if after.step < phase.steps else begin(phases, place.phase + 1)


def is_over(place: Place, phases: list[Phase]) -> bool:
    """Whether no update is left."""
    return place.phase == len(phases) - 1 and place.step >= phases[-1].steps


def _latest(recent: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """As few of the latest steps as decide."""
    first = max(0, len(recent) - FEWEST_STEPS)
    while first > 0 and sum(asked for _, asked in recent[first:]) < ANSWERS:
        first -= 1
    return recent[first:]


def _share(recent: list[tuple[int, int]]) -> float | None:
    """Of right answers; None while there are too few to decide."""
    asked = sum(count for _, count in recent)
    if len(recent) < FEWEST_STEPS or asked < ANSWERS:
        return None
    return sum(right for right, _ in recent) / asked
