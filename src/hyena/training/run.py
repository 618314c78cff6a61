"""A training run of a language model: what it reads, evaluates, records and saves."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hyena.arguments import plural
from hyena.data import Windows, WindowSampler
from hyena.files.records import from_plain, write_record
from hyena.filters.evaluation_mode import evaluation_mode
from hyena.model import LanguageModel, ModelConfig
from hyena.model.build import layers_in_words, without_effect
from hyena.model.saved import checkpoints_of, list_checkpoints
from hyena.training.checkpoint import (
    CONFIG,
    FORMAT_VERSION,
    STATE,
    Best,
    Start,
    config_yaml,
    opened,
    point_to_best,
    prune,
    restore_optimizer,
    tidy,
    write_checkpoint,
    written,
)
from hyena.training.config import TrainConfig, check_config, learning_rate
from hyena.training.data import Data, open_data
from hyena.training.initial import build, own_options, resolved
from hyena.training.launch import is_first, launched
from hyena.training.loop import NotFiniteError, Step, Update, reproducible, seed_of, train_steps
from hyena.training.metrics import FILE, Metrics, Progress, Record, Report
from hyena.training.optimizer import adamw
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
    data = open_data(config)
    first = is_first()
    with stop_on_signal() as request, opened(config, data.fingerprint, first=first) as start:
        config = start.config
        model = build(config, start)
        optimizer = adamw(model, config.optimizer)
        # If one of them was refused, nothing has been written.
        with (
            launched(config, ready) as fabric,
            reproducible(fabric.device, deterministic=config.deterministic),
        ):
            if fabric.global_rank > 0:
                return _Run(data, start, model, optimizer, fabric).train(request)
            tidy(config, start)
            with written(config.out / FILE, checkpoints_of(config.out)):
                metrics = Metrics(config.out, step=start.state.step, tensorboard=config.tensorboard)
            progress = Progress(start.state.step, config.steps, report)
            try:
                for note in _notes(data, start):
                    progress.message(note)
                run = _Run(data, start, model, optimizer, fabric, metrics, progress)
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


def _notes(data: Data, start: Start) -> list[str]:
    """What whoever began the run may not have expected of it."""
    of_init = own_options(start.config) if start.checkpoint is None else ""
    notes = [*data.notes, _without_effect(start.config.model), of_init]
    return [note for note in notes if note]


def _without_effect(model: ModelConfig) -> str:
    """A note on options that no layer reads. They are no error: one file may serve models of
    several kinds."""
    names = without_effect(model)
    if not names:
        return ""
    has = plural(len(names), "has", "have")
    options = ", ".join(f"model.{name}" for name in names)
    return f"{options} {has} no effect on a model of {layers_in_words(model)}"


class _Run:
    """The run as one process sees it; only the first has metrics and writes."""

    def __init__(
        self,
        data: Data,
        start: Start,
        model: LanguageModel,
        optimizer: torch.optim.Optimizer,
        fabric: Fabric,
        metrics: Metrics | None = None,
        progress: Progress | None = None,
    ) -> None:
        config = start.config
        self.config, self.data, self.fabric = config, data, fabric
        self.metrics, self.progress = metrics, progress
        self.state = start.state
        self.checkpoints = checkpoints_of(config.out)
        self.saved = start.checkpoint
        self.stop_at = config.steps
        if config.stop_after is not None:
            self.stop_at = min(config.steps, start.state.step + config.stop_after)
        self.signal = 0
        self.model, self.optimizer = model, optimizer
        self.wrapped = fabric.setup_module(self.model)
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
            saved = list_checkpoints(self.checkpoints)
            good = f"last good checkpoint: {saved[-1]}" if saved else "there is no checkpoint yet"
            raise RuntimeError(
                f"{error} at step {state.step + 1} (lr {self._learning_rate():.2g}); {good}. Try a "
                "lower optimizer.lr, a longer schedule.warmup_steps, a smaller clip or another seed"
            ) from error
        assert self.saved is not None or self.metrics is None
        return TrainResult(
            self.saved or self.checkpoints, state.step, config.steps, self.signal, rank
        )

    def is_over(self) -> bool:
        """Whether this call ends here."""
        return self.state.step >= self.stop_at or bool(self.signal)

    def step(self) -> Step[Windows]:
        """This process's windows of the next step."""
        config, fabric, number = self.config, self.fabric, self.state.step
        windows = self.data.at(number).training
        batch = windows.batch(number, fabric.global_rank, fabric.world_size)
        columns = (column.chunk(config.accumulate) for column in batch)
        parts = [Windows(*part) for part in zip(*columns, strict=True)]
        return Step(
            parts,
            lambda model, part: window_loss(model, part, fabric.device) / len(parts),
            factor=self._learning_rate() / config.optimizer.lr,
            seed=seed_of(config.seed, number, fabric.global_rank),
        )

    def updated(self, update: Update) -> None:
        """Records the step, evaluates and saves where that is due."""
        config, state, lr = self.config, self.state, self._learning_rate()
        tokens, part = config.tokens_per_step(), self.data.at(state.step)
        state.step, state.tokens = state.step + 1, state.tokens + tokens
        self.signal = update.signal
        record: Record = {
            "step": state.step,
            "loss": update.loss,
            "lr": lr,
            "grad_norm": update.norm,
            "length": part.stage.length,
            "tokens": state.tokens,
            "tokens_per_s": tokens / update.seconds,
        }
        step, every, improved = state.step, config.evaluation.every, False
        if part.validation is not None and (step % every == 0 or step == config.steps):
            loss = self._evaluate(part.validation)
            record["validation_loss"] = loss
            best = state.best
            if best is not None and best.step <= part.stage.first:
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
        if self.metrics is not None and (due or improved or self.is_over()):
            self._save(self.metrics)

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

    def _evaluate(self, sampler: WindowSampler) -> float:
        """Mean validation loss over all processes, in nats per token."""
        fabric = self.fabric
        batches = (
            sampler.batch(i, fabric.global_rank, fabric.world_size)
            for i in range(self.config.evaluation.batches)
        )
        # The bare model: data parallel wrappers talk to each other in every forward.
        with fabric.autocast():
            loss = mean_loss(self.model, batches, fabric.device)
        if fabric.world_size == 1:
            return loss
        shared = torch.tensor(loss, dtype=torch.float64, device=fabric.device)
        return float(fabric.all_reduce(shared, reduce_op="mean"))  # type: ignore[arg-type]

    def _save(self, metrics: Metrics) -> None:
        state, checkpoints, keep = self.state, self.checkpoints, self.config.checkpoint
        with written(self.config.out / FILE, checkpoints):
            metrics.sync()

        def write(folder: Path) -> None:
            self.model.save(folder)
            self.data.tokenizer.save(folder)
            write_record(folder / STATE, state, FORMAT_VERSION)
            (folder / CONFIG).write_text(config_yaml(state.config), encoding="utf-8")

        self.saved = write_checkpoint(checkpoints, state.step, self.optimizer, write)
        best = state.best if keep.best else None
        with written(checkpoints, checkpoints):
            if best is not None and best.step == state.step:
                point_to_best(checkpoints, best)
            prune(checkpoints, keep.keep, best)


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
    """Mean loss over batches of equal size, without gradients and in evaluation mode."""
    with evaluation_mode(model), torch.no_grad():
        losses = [window_loss(model, batch, device) for batch in batches]
    return float(torch.stack(losses).mean())
