"""Running a cell: training, checkpoints and the measurement at the end.

Its updates are made by `hyena.training.loop`. A resumed cell equals the uninterrupted one bit for
bit; only a budget of minutes ends it where the clock says.

One checkpoint stays, the newest: ``checkpoints/step-00000200/`` with

- ``model.safetensors``, and for models of tokens ``config.json``: what `hyena.load` reads;
- ``optimizer.safetensors``: AdamW's moments and step counts, by parameter name;
- ``state.json``: `State`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from hyena.arguments import plural
from hyena.experiments.cell import CellConfig, check_same_cell, model_config, plain
from hyena.experiments.curriculum import (
    Phase,
    Place,
    Stream,
    TrainingBatches,
    advance,
    begin,
    build_phases,
    generator,
    is_over,
    micro_batches,
)
from hyena.experiments.measure import (
    Measurement,
    TaskLoss,
    as_text,
    held_out,
    measure,
    with_interval,
)
from hyena.experiments.record import Result, Stopped, find_finished, write_result
from hyena.experiments.regression_model import RegressionModel
from hyena.files import atomic, digests
from hyena.files.folder import CELL, locked, refuse_other
from hyena.files.records import read_record, write_record
from hyena.model import LanguageModel
from hyena.model.checkpoint import read_weights
from hyena.model.saved import WEIGHTS, list_checkpoints, step_of
from hyena.tasks import Batch, build_task
from hyena.training.checkpoint import (
    moments,
    prune,
    remedy,
    restore_optimizer,
    write_checkpoint,
)
from hyena.training.loop import (
    NotFiniteError,
    OneProcess,
    Step,
    Update,
    reproducible,
    seed_of,
    train_steps,
)
from hyena.training.metrics import Report
from hyena.training.optimizer import adamw
from hyena.training.processes import StopRequest, stop_on_signal

# Seed of the validation sequences: the same ones whatever the cell's seed, so that cells compare.
_VALIDATION_SEED = 0

_FORMAT = 1
_CHECKPOINTS, _STATE = "checkpoints", "state.json"


@dataclass(frozen=True)
class End:
    """How a call of `run_cell` ended.

    Attributes:
        result: the record, if the cell is finished.
        step: updates done.
        steps: those of the whole training, if no stage ends early.
        signal: number of the signal that stopped the call, 0 if none did.
    """

    result: Result | None
    step: int
    steps: int
    signal: int = 0


@dataclass
class State:
    """Where a training stands, beside weights and moments.

    Attributes:
        config: the plain cell.
        step: updates done.
        tokens: tokens of their batches.
        seconds: of the steps.
        total_seconds: with measuring and writing.
        losses: sum of the training losses since the last measurement.
        loss_steps: how many losses that is.
        keys: most different keys in a sequence of the latest batch, None for all.
        curve: the measurements, each a table as in `hyena.experiments.record.Result`.
        place: where it stands among the phases.
    """

    config: dict[str, Any]
    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    total_seconds: float = 0.0
    losses: float = 0.0
    loss_steps: int = 0
    keys: int | None = None
    curve: list[dict[str, Any]] = field(default_factory=list)
    place: Place = field(default_factory=Place)


class _InterruptedError(Exception):
    """A signal came while something was measured."""


def run_cell(
    config: CellConfig,
    *,
    say: Callable[[str], None] = print,
    progress: Report | None = None,
) -> End:
    """Trains and measures a cell, goes on with an interrupted one, or finds it finished.

    The first SIGINT or SIGTERM ends the call with a checkpoint, the second one raises
    KeyboardInterrupt.

    Args:
        config: the cell.
        say: is given a line for each measurement.
        progress: called after each step with the steps done and the most there may be.

    Raises: ValueError if parts of the configuration do not fit together, or if the folder holds
        another cell or a damaged one; RuntimeError if another process is running the cell; OSError
        if the folder cannot be written.
    """
    phases = build_phases(config)
    steps = sum(phase.steps for phase in phases)
    refuse_other(config.out, CELL)
    result = find_finished(config)
    if result is not None:
        return End(result, result.steps, steps)
    if config.training.stop_at is not None and phases[-1].task.features:
        raise ValueError(
            f"training.stop_at is an accuracy, but {config.task.name} is measured by its squared "
            "error; leave it out"
        )
    for phase in phases:  # while nothing is lost yet if there are too few prompts
        next(held_out(phase.task, 2, split="train", seed=config.seed))
    next(held_out(build_task(config.task), 2, split="test", seed=config.seed))
    cpu = torch.device("cpu")
    with stop_on_signal() as request, reproducible(cpu, threads=config.threads):
        run = _Run(config, phases, steps, request, say, progress)
        with locked(config.out):
            return run.run()


def build_model(config: CellConfig, phases: list[Phase]) -> nn.Module:
    """The cell's model with its initial weights.

    Returns: a `LanguageModel`, or a `RegressionModel` if the task is real-valued.
    Raises: ValueError if the model does not fit the task.
    """
    model = model_config(config, [phase.task for phase in phases])
    draw = generator(config.seed, Stream.WEIGHTS)
    features = phases[-1].task.features
    if features:
        return RegressionModel(model, features, generator=draw)
    return LanguageModel(model, generator=draw)


class _Run:
    """One call of `run_cell`."""

    def __init__(
        self,
        config: CellConfig,
        phases: list[Phase],
        steps: int,
        request: StopRequest,
        say: Callable[[str], None],
        progress: Report | None,
    ) -> None:
        self.config, self.phases, self.steps = config, phases, steps
        self.request, self.say, self.progress = request, say, progress
        self.training = config.training
        self.model = build_model(config, phases)
        self.optimizer = adamw(self.model, config.training.optimizer)
        self.state = State(plain(config), place=begin(phases, 0))
        self.batches = TrainingBatches(config, phases)
        self.stopped: Stopped | None = None  # why it ended
        self.saved = 0  # the step of the checkpoint on disk, 0 for none

    def run(self) -> End:
        restored = restore(self.config, self.model, self.optimizer)
        if restored is not None:
            self.state, self.saved = restored, restored.step
            self.say(f"going on from step {restored.step} of {self.steps}")
        self.saved_at = self.clock = time.perf_counter()
        self.model.train()
        try:
            self._train()
            self._save()
            test = self._measure_test()
        except _InterruptedError:
            self._save()
            at = f"saved at step {self.state.step}" if self.state.step else "nothing to save yet"
            self.say(f"interrupted; {at}")
            return End(None, self.state.step, self.steps, self.request.signal)
        self._count_time()
        result = write_result(
            self.config,
            test,
            parameters=sum(p.numel() for p in self.model.parameters()),
            steps=self.state.step,
            tokens=self.state.tokens,
            minutes=self.state.seconds / 60,
            total_minutes=self.state.total_seconds / 60,
            stopped=self.stopped,
            curve=self.state.curve,
        )
        return End(result, self.state.step, self.steps)

    def _train(self) -> None:
        """Goes on until the training ends, which it has also measured then."""
        self._look()  # at what was interrupted before it was measured
        try:
            train_steps(
                self,
                self.model,
                self.optimizer,
                clip=self.training.clip,
                request=self.request,
                fabric=OneProcess(),
            )
        except NotFiniteError:
            self.say(f"the loss or its gradient is not finite after step {self.state.step}")
            self.stopped = "diverged"
            if self._is_due():
                self._validate()

    def is_over(self) -> bool:
        """Whether the training has ended; raises _InterruptedError after a signal."""
        if self.stopped is None:
            self._go_on()
        return self.stopped is not None

    def step(self) -> Step[Batch]:
        """The next step of the phase."""
        state, training = self.state, self.training
        stages_are_over = state.place.phase == len(self.phases) - 1
        own = state.place.step if stages_are_over else None
        batch = self.batches.batch(state.step, state.place.phase, state.place.keys)
        self.tokens = batch.answers.numel()
        parts = micro_batches(batch, training.micro_tokens)
        self.loss = TaskLoss(parts)
        return Step(
            parts,
            self.loss,
            factor=training.factor(state.step, own, self.phases[-1].steps),
            seed=seed_of(self.config.seed, Stream.DROPOUT, state.step),
        )

    def updated(self, update: Update) -> None:
        """Goes on in the phase, or to the next one; saves and measures where that is due."""
        state = self.state
        state.step += 1
        state.tokens += self.tokens
        state.losses += update.loss
        state.loss_steps += 1
        state.seconds += update.seconds
        state.keys = state.place.keys
        state.place = advance(state.place, self.phases, self.loss.right, self.loss.answers)
        if self.progress is not None:
            self.progress(state.step, self.steps)
        if time.perf_counter() - self.saved_at >= 60 * self.training.checkpoint_minutes:
            self._save()
        self._look()

    def _look(self) -> None:
        """Measures what is due, and sees whether the training has ended."""
        minutes = self.training.minutes
        if is_over(self.state.place, self.phases):
            self.stopped = "steps"
        elif minutes is not None and self.state.seconds >= 60 * minutes:
            self.stopped = "minutes"
        if self._is_due():
            self._validate()
        if self.stopped is None and self._accuracy_is_reached():
            self.stopped = "accuracy"

    def _accuracy_is_reached(self) -> bool:
        """Twice in a row, in the last phase that has any steps."""
        wanted = self.training.stop_at
        last = max(i for i, phase in enumerate(self.phases) if phase.steps)
        values = [point["value"] for point in self.state.curve[-2:] if point["phase"] == last]
        return wanted is not None and len(values) == 2 and min(values) >= wanted

    def _is_due(self) -> bool:
        """Whether the state is to be measured and has not been."""
        step, curve = self.state.step, self.state.curve
        if step == 0 or (curve and curve[-1]["step"] == step):
            return False
        began = self.state.place.step == 0  # the phase before has ended
        return self.stopped is not None or step % self.training.evaluate_every == 0 or began

    def _validate(self) -> None:
        """Measures on validation sequences of the length that was trained last."""
        state, count = self.state, self.training.validation_sequences
        phase = state.place.phase - (state.place.step == 0)  # then the one before has ended
        task = self.phases[phase].task
        found = self._measure(held_out(task, count, split="train", seed=_VALIDATION_SEED))
        point = {
            "step": state.step,
            "phase": phase,
            "length": task.length,
            "keys": state.keys,
            "tokens": state.tokens,
            "seconds": state.seconds,
            "loss": state.losses / max(1, state.loss_steps),
            "value": found.value,
        }
        state.losses, state.loss_steps = 0.0, 0
        state.curve.append(point)
        keys = "" if point["keys"] is None else f", {point['keys']} keys"
        value = as_text(found.measure, found.value)
        self.say(
            f"step {state.step}/{self.steps}  length {task.length}{keys}  "
            f"loss {point['loss']:.4f}  validation {value}  {state.seconds / 60:.1f} min"
        )

    def _measure_test(self) -> Measurement:
        task = build_task(self.config.task)
        count = self.training.test_sequences
        found = self._measure(held_out(task, count, split="test", seed=self.config.seed))
        self.say(
            f"test on {count} {plural(count, 'sequence')}: {found.measure} {with_interval(found)}"
        )
        return found

    def _measure(self, batches: Iterator[Batch]) -> Measurement:
        return measure(
            self.model,
            self.phases[-1].task,
            batches,
            micro_tokens=self.training.micro_tokens,
            check=self._go_on,
        )

    def _go_on(self) -> None:
        """Raises _InterruptedError after a signal."""
        if self.request.signal:
            raise _InterruptedError

    def _save(self) -> None:
        """Writes a checkpoint, unless there is one of this step, or none has been done.

        What was measured since at the same step would be measured again, with the same result.
        """
        self._count_time()
        if self.state.step > self.saved:
            save(self.config, self.state, self.model, self.optimizer)
            self.saved = self.state.step
        self.saved_at = time.perf_counter()

    def _count_time(self) -> None:
        now = time.perf_counter()
        self.state.total_seconds += now - self.clock
        self.clock = now


def save(
    config: CellConfig, state: State, model: nn.Module, optimizer: torch.optim.Optimizer
) -> Path:
    """Writes the checkpoint of ``state.step``, of which there is none yet, atomically, and then
    removes the others.

    Returns: its folder. Raises: OSError; the checkpoint before is intact then.
    """
    folder = config.out / _CHECKPOINTS

    def write(temporary: Path) -> None:
        if isinstance(model, LanguageModel):
            model.save(temporary)
        else:
            weights = {k: v.contiguous() for k, v in model.state_dict().items()}
            save_file(weights, temporary / WEIGHTS, {"format": "pt"})
        write_record(temporary / _STATE, state, _FORMAT)

    folder.mkdir(parents=True, exist_ok=True)
    atomic.remove_temporary(folder, "step-*")
    path = write_checkpoint(folder, state.step, moments(optimizer), write)
    prune(folder, 1, best=None)
    return path


def restore(config: CellConfig, model: nn.Module, optimizer: torch.optim.Optimizer) -> State | None:
    """Puts the newest checkpoint of the cell into the model and the optimizer.

    Returns: where it stands; None, and nothing is changed, if there is no checkpoint.
    Raises: ValueError if it is damaged, of another format version or of another configuration.
    """
    found = list_checkpoints(config.out / _CHECKPOINTS)
    if not found:
        return None
    checkpoint = found[-1]
    path, advice = checkpoint / _STATE, remedy(checkpoint)
    if not path.is_file():
        raise ValueError(
            f"{checkpoint} is no checkpoint of a cell: it has no {_STATE}; use another folder, or "
            "restore it from a copy"
        )
    state = read_record(path, State, _FORMAT, advice=advice)
    if state.step != step_of(checkpoint):
        raise ValueError(f"{path} is damaged: its step is {state.step}; {advice}")
    check_same_cell(state.config, config)
    digests.check(checkpoint, advice=advice)
    model.load_state_dict(read_weights(checkpoint / WEIGHTS))
    restore_optimizer(checkpoint, optimizer)
    state.config = plain(config)
    return state
