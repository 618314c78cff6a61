"""A training run of a language model: what it reads, evaluates, records and saves."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from hyena.arguments import IGNORE, plural
from hyena.data import Windows
from hyena.files.records import from_plain, write_record
from hyena.filters.evaluation_mode import evaluation_mode
from hyena.finetuning.data import open_labelled
from hyena.finetuning.objective import LabelObjective
from hyena.model import LanguageModel
from hyena.model.saved import CONFIG as MODEL_CONFIG
from hyena.model.saved import OF_MODEL, as_read, checkpoints_of, description, list_checkpoints
from hyena.training.checkpoint import (
    CONFIG,
    FORMAT_VERSION,
    OF_OPTIMIZER,
    STATE,
    Best,
    Start,
    config_yaml,
    moments,
    opened,
    point_to_best,
    prune,
    restore_optimizer,
    save_model,
    tidy,
    write_checkpoint,
    written,
)
from hyena.training.checkpoint_parts import write_checkpoint_in_parts
from hyena.training.config import TrainConfig, check_config, learning_rate
from hyena.training.data import open_data
from hyena.training.initial import build, resolved, tokenizer_of
from hyena.training.launch import is_first, launched, row_mesh
from hyena.training.loop import NotFiniteError, Step, Update, reproducible, seed_of, train_steps
from hyena.training.metrics import FILE, Metrics, Progress, Record, Report
from hyena.training.notes import notes
from hyena.training.objective import Objective
from hyena.training.optimizer import adamw, parameter_groups
from hyena.training.parts import all_whole
from hyena.training.pieces import InPieces
from hyena.training.processes import StopRequest, read_request, stop_on_signal

if TYPE_CHECKING:
    from lightning_fabric.fabric import Fabric


@dataclass
class TrainResult:
    """How a call of `train` ended.

    Attributes:
        checkpoint: the newest checkpoint.
        step: finished steps.
        steps: steps of the whole run; more than ``step`` if this call stopped before the end.
        signal: number of the signal that stopped it, 0 if none did.
        rank: of this process; the first, 0, is the one that writes.
    """

    checkpoint: Path
    step: int
    steps: int
    signal: int
    rank: int = 0


def train(config: TrainConfig, *, progress: Report | None = None) -> TrainResult:
    """Trains a language model, or goes on training it.

    Writes checkpoints, ``metrics.jsonl`` and (optionally) TensorBoard events into ``config.out``.
    The first SIGINT or SIGTERM ends the run after the current step with a checkpoint; the second
    raises KeyboardInterrupt at once. With several devices this starts the other processes.

    Args:
        config: see `TrainConfig`.
        progress: called after each step with the steps done and those of the whole run.

    Returns: where the run stands.
    Raises: ValueError for a configuration that cannot work or is not the resumed run's;
        FileNotFoundError for missing data; FileExistsError if ``out`` holds a run and ``resume``
        is off; OSError if something cannot be written; RuntimeError if the loss is not finite, a
        process of the run stops, or another run uses the folder; ImportError for a missing
        package. After any of them the checkpoints written before are intact.
    """
    return train_process(config, lambda: None, progress)


def train_process(
    config: TrainConfig, ready: Callable[[], None], report: Report | None = None
) -> TrainResult:
    """One process of `train`; ``ready`` is called when only the other processes are missing."""
    config = resolved(config)
    check_config(config)
    objective = open_objective(config)
    first = is_first()
    with stop_on_signal() as request, opened(config, objective.fingerprint, first=first) as start:
        config = start.config
        model = build(config, start, objective.labels)
        parameter_groups(model, config.optimizer)  # which refuses what the optimizer would
        # If one of them was refused, nothing has been written.
        with (
            launched(config, ready) as fabric,
            reproducible(fabric.device, deterministic=config.deterministic),
        ):
            if fabric.global_rank > 0:
                return _Run(objective, start, model, fabric).train(request)
            tidy(config, start)
            with written(config.out / FILE, checkpoints_of(config.out)):
                metrics = Metrics(config.out, step=start.state.step, tensorboard=config.tensorboard)
            progress = Progress(start.state.step, config.steps, report)
            try:
                for note in notes(objective, start):
                    progress.message(note)
                run = _Run(objective, start, model, fabric, metrics, progress)
                return run.train(request)
            finally:
                progress.close()
                metrics.close()


def work() -> None:
    """A further process of a data-parallel run, which `hyena.training.launch` starts."""

    def report_ready() -> None:
        os.write(1, b".")
        os.dup2(2, 1)  # nobody reads the pipe any more

    request = read_request(orphaned=lambda: os._exit(1))
    status = 0
    try:
        train_process(from_plain(TrainConfig, request), report_ready)
    except Exception as error:
        print(error, file=sys.stderr)
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    # No interpreter shutdown: gloo's threads sometimes abort in it.
    os._exit(status)


class _Run:
    """The run as one process sees it; only the first has metrics and writes."""

    def __init__(
        self,
        objective: Objective,
        start: Start,
        model: LanguageModel,
        fabric: Fabric,
        metrics: Metrics | None = None,
        progress: Progress | None = None,
    ) -> None:
        config = start.config
        self.config, self.objective, self.fabric = config, objective, fabric
        self.metrics, self.progress = metrics, progress
        self.state = start.state
        self.checkpoints = checkpoints_of(config.out)
        self.saved = start.checkpoint
        self.stop_at = config.steps
        if config.stop_after is not None:
            self.stop_at = min(config.steps, start.state.step + config.stop_after)
        self.signal = 0
        self.model, self.layout = model, config.layout()
        trained = objective.module(model)
        self.evaluated: Any = model
        if self.layout.context > 1:
            from hyena.distributed import ContextParallel

            mesh = row_mesh(self.layout, fabric.device.type)
            trained = self.evaluated = InPieces(model, ContextParallel(mesh))
        self.wrapped = fabric.setup_module(trained)
        self.optimizer = adamw(model, config.optimizer)  # of parameters as they are kept now
        if start.checkpoint is not None:
            restore_optimizer(start.checkpoint, self.optimizer)
            if progress is not None:
                progress.message(f"resuming from {start.checkpoint}{self._place()}")

    def train(self, request: StopRequest) -> TrainResult:
        """Goes on until its steps are done, or a signal stops it."""
        self.model.train()
        state, config, rank = self.state, self.config, self.fabric.global_rank
        try:
            train_steps(
                self,
                self.wrapped,
                self.optimizer,
                clip=config.clip,
                request=request,
                fabric=self.fabric,
            )
        except NotFiniteError as error:
            raise self._not_finite(str(error), state.step + 1, self._learning_rate()) from error
        assert self.saved is not None or self.metrics is None
        return TrainResult(
            self.saved or self.checkpoints, state.step, config.steps, self.signal, rank
        )

    def is_over(self) -> bool:
        """Whether this call ends here."""
        return self.state.step >= self.stop_at or bool(self.signal)

    def step(self) -> Step[Any]:
        """This process's part of the next step."""
        config, fabric, number = self.config, self.fabric, self.state.step
        group = self.layout.group_of(fabric.global_rank)
        return Step(
            self.objective.parts(number, group, self.layout.groups),
            lambda model, part: self.objective.loss(model, part, fabric.device),
            factor=self._learning_rate() / config.optimizer.lr,
            seed=seed_of(config.seed, number, fabric.global_rank),
        )

    def updated(self, update: Update) -> None:
        """Records the step, evaluates and saves where that is due."""
        config, state, lr, number = self.config, self.state, self._learning_rate(), self.state.step
        length, tokens = self.objective.size(number)
        state.step, state.tokens = number + 1, state.tokens + tokens
        self.signal = update.signal
        record: Record = {
            "step": state.step,
            "loss": update.loss,
            "lr": lr,
            "grad_norm": update.norm,
            "length": length,
            "tokens": state.tokens,
            "tokens_per_s": tokens / update.seconds,
        }
        step, every, improved = state.step, config.evaluation.every, False
        due = every and (step % every == 0 or step == config.steps)
        if due and self.objective.evaluates(number):
            found = self._evaluate(number)
            for name, value in found.items():
                if not math.isfinite(value):
                    raise self._not_finite(f"{name} is {value}", step, lr)
            record |= found
            loss, best = record["validation_loss"], state.best
            if best is not None and best.step <= self.objective.compares_from(number):
                best = None  # of windows of another length
            if best is None or loss < best.validation_loss:
                state.best = Best(step, loss)
                improved = config.checkpoint.best
        if self.metrics is not None and (
            step % config.log_every == 0 or "validation_loss" in record
        ):
            with written(config.out / FILE, self.checkpoints):
                self.metrics.write(record)
        if self.progress is not None:
            self.progress.update(record)
        due = config.checkpoint.every and step % config.checkpoint.every == 0
        if due or improved or self.is_over():
            self._save()

    def _place(self) -> str:
        """Where a run is that goes on, if that is beyond its end or its schedule's."""
        config, step = self.config, self.state.step
        if step >= config.steps:
            return f", where all {config.steps} steps are done"
        end = config.schedule.end(config.steps)
        if step < end:
            return ""
        return f"; from step {end} on the learning rate is {self._learning_rate():g}"

    def _learning_rate(self) -> float:
        """The peak of the parameters without one of their own, in the next update."""
        schedule, peak = self.config.schedule, self.config.optimizer.lr
        return learning_rate(
            self.state.step,
            peak=peak,
            start=schedule.start_lr,
            floor=schedule.floor(peak),
            warmup=schedule.warmup(self.config.steps),
            steps=schedule.end(self.config.steps),
        )

    def _not_finite(self, what: str, step: int, lr: float) -> RuntimeError:
        """The error of something at a step that is no finite number."""
        saved = list_checkpoints(self.checkpoints)
        good = f"last good checkpoint: {saved[-1]}" if saved else "there is no checkpoint yet"
        return RuntimeError(
            f"{what} at step {step} (lr {lr:.2g}); {good}. Try a lower optimizer.lr, a longer "
            "schedule.warmup_steps, a smaller clip or another seed"
        )

    def _evaluate(self, number: int) -> dict[str, float]:
        """What the objective measures after the update that follows so many finished ones."""
        # No data parallel wrapper, which would talk to others in every forward.
        with self.fabric.autocast():
            return self.objective.evaluate(self.evaluated, number, self.fabric)

    def _save(self) -> None:
        """The first process writes a checkpoint; where parameters are in parts, all give theirs."""
        state, checkpoints, keep = self.state, self.checkpoints, self.config.checkpoint
        metrics, weights = self.metrics, None
        if keep.sharded:
            self._save_in_parts()
            return
        if self.layout.shard > 1:
            weights = all_whole(self.model.state_dict(), keep=metrics is not None)
        tensors = all_whole(moments(self.optimizer), keep=metrics is not None)
        if metrics is None:
            return
        with written(self.config.out / FILE, checkpoints):
            metrics.sync()

        def write(folder: Path) -> None:
            save_model(self.model, folder, weights)
            self._write_beside(folder)

        self.saved = write_checkpoint(checkpoints, state.step, tensors, write)
        self._prune()

    def _save_in_parts(self) -> None:
        """Each process writes what it keeps, and the first all else."""
        weights, kept = self.model.state_dict(), moments(self.optimizer)
        tensors = {OF_MODEL + name: x for name, x in weights.items()}
        tensors |= {OF_OPTIMIZER + name: x for name, x in kept.items()}

        def write(folder: Path) -> None:
            if self.metrics is not None:
                self.metrics.sync()
            text = description(as_read(self.model.config), self.model.label_head)
            (folder / MODEL_CONFIG).write_text(text, encoding="utf-8")
            self._write_beside(folder)

        self.saved = write_checkpoint_in_parts(self.checkpoints, self.state.step, tensors, write)
        if self.metrics is not None:
            self._prune()

    def _write_beside(self, folder: Path) -> None:
        """All of a checkpoint but weights and moments."""
        state = self.state
        self.objective.tokenizer.save(folder)
        write_record(folder / STATE, state, FORMAT_VERSION)
        (folder / CONFIG).write_text(config_yaml(state.config), encoding="utf-8")

    def _prune(self) -> None:
        """Keeps the best and the newest checkpoints alone."""
        state, checkpoints, keep = self.state, self.checkpoints, self.config.checkpoint
        best = state.best if keep.best else None
        with written(checkpoints, checkpoints):
            if best is not None and best.step == state.step:
                point_to_best(checkpoints, best)
            prune(checkpoints, keep.keep, best)


def open_objective(config: TrainConfig) -> Objective:
    """What a run trains its model for, with the data opened.

    Raises: FileNotFoundError if they are not there; ValueError if they are damaged, too few, or do
        not fit the model.
    """
    if config.task == "language-modeling":
        return NextToken(config)
    tokenizer = tokenizer_of(config)
    data = open_labelled(config.data, config.labels, config.task, config.model, tokenizer)
    every, held_out = config.evaluation.every, len(data.validation)
    if every and not held_out:
        raise ValueError(
            f"{config.data} has no rows to evaluate on, since labels.fraction is 0; give "
            "labels.validation a file, or train with --evaluation.every 0"
        )
    if held_out and not every:
        data.notes.append(
            f"{held_out:,} {plural(held_out, 'row is', 'rows are')} held out, but evaluation.every "
            "is 0: nothing is evaluated on them; labels.fraction 0 trains on all"
        )
    found = LabelObjective(data, batch=config.batch, accumulate=config.accumulate, seed=config.seed)
    if every and not found.evaluates(0):
        raise ValueError(
            f"{config.labels.validation or config.data}: no letter of the rows that are held out "
            "has a label to evaluate on; give labels.validation another file, or train with "
            "--evaluation.every 0"
        )
    return found


class MicroBatch(NamedTuple):
    """Windows that run together.

    Attributes:
        windows: those of one process.
        times: how many times as many targets a process has in the whole step, in the mean of all
            processes: of some windows more may be masked than of others.
    """

    windows: Windows
    times: float


class NextToken:
    """The next token of windows of text: what a language model is trained for.

    Args: the configuration of the run, which says where they are.
    Attributes: as of `hyena.training.objective.Objective`.
    Raises: as `hyena.training.data.open_data`.
    """

    labels = None

    def __init__(self, config: TrainConfig) -> None:
        self._config, self._data = config, open_data(config)
        self.tokenizer, self.notes = self._data.tokenizer, self._data.notes
        self.fingerprint = self._data.fingerprint

    def module(self, model: LanguageModel) -> torch.nn.Module:
        """The model."""
        return model

    def parts(self, step: int, rank: int, world: int) -> list[MicroBatch]:
        """Windows of one process."""
        sampler = self._data.at(step).training
        batch, whole = sampler.batch(step, rank, world), sampler.targets(step)
        columns = (column.chunk(self._config.accumulate) for column in batch)
        parts = (Windows(*part) for part in zip(*columns, strict=True))
        # The gradients of the processes are averaged.
        return [MicroBatch(part, whole / (world * targets_of(part))) for part in parts]

    def loss(self, model: Any, part: MicroBatch, device: torch.device) -> Tensor:
        """A part's share of the mean over the targets of a step."""
        return window_loss(model, part.windows, device) / part.times

    def size(self, step: int) -> tuple[int, int]:
        """The tokens of a window, and those of a step, the same at every length."""
        return self._data.at(step).stage.length, self._config.tokens_per_step()

    def evaluates(self, step: int) -> bool:
        """Whether there is a validation split."""
        return self._data.at(step).validation is not None

    def compares_from(self, step: int) -> int:
        """The steps before those of the same length."""
        return self._data.at(step).stage.first

    def evaluate(self, model: LanguageModel, step: int, fabric: Fabric) -> dict[str, float]:
        """Mean validation loss over all processes, in nats per token."""
        sampler, layout = self._data.at(step).validation, self._config.layout()
        assert sampler is not None
        numbers = range(self._config.evaluation.batches)
        place = layout.group_of(fabric.global_rank), layout.groups
        batches = (sampler.batch(i, *place) for i in numbers)
        loss = mean_loss(model, batches, fabric.device)
        if fabric.world_size > 1:
            count = sum(sampler.targets(i, *place) for i in numbers)
            own = [loss * count, float(count)]
            shared = torch.tensor(own, dtype=torch.float64, device=fabric.device)
            total, targets = fabric.all_reduce(shared, reduce_op="sum").tolist()  # type: ignore[union-attr]
            loss = total / targets
        return {"validation_loss": loss}


def window_loss(model: Any, windows: Windows, device: torch.device) -> Tensor:
    """Loss of a model on windows.

    Args:
        model: maps ids (B, L), ``document_ids`` and ``targets`` to the mean loss.
        windows: inputs, targets and document_ids, each (B, L), on the CPU.
        device: where the model is.

    Returns: a scalar, float64 for a float64 model and float32 otherwise.
    """
    inputs, targets, documents = windows
    # Ids never decrease within a window, so the two ends tell whether there is a boundary in it.
    # Without one the model takes its cheaper path.
    within_one = bool((documents[:, 0] == documents[:, -1]).all())
    loss: Tensor = model(
        inputs.to(device, non_blocking=True),
        document_ids=None if within_one else documents.to(device, non_blocking=True),
        targets=targets.to(device, non_blocking=True),
    )
    return loss


def mean_loss(model: torch.nn.Module, batches: Iterable[Windows], device: torch.device) -> float:
    """Mean loss over the targets of batches, without gradients and in evaluation mode."""
    with evaluation_mode(model), torch.no_grad():
        found = [(window_loss(model, batch, device), targets_of(batch)) for batch in batches]
    losses, counts = zip(*found, strict=True)
    weights = torch.tensor(counts, dtype=torch.float64)
    of_batches = torch.stack(losses).cpu().double()  # on the CPU: MPS has no float64
    return float((of_batches * weights).sum() / weights.sum())


def targets_of(windows: Windows) -> int:
    """How many there are."""
    return int((windows.targets != IGNORE).sum())
