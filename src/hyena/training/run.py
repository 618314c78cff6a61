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
from hyena.data import Tokenizer, Windows, WindowSampler, open_tokens, read_manifest
from hyena.files.records import from_plain, to_plain, write_record
from hyena.filters.evaluation_mode import evaluation_mode
from hyena.model import LanguageModel, ModelConfig, load
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
    remedy,
    restore_optimizer,
    tidy,
    write_checkpoint,
    written,
)
from hyena.training.config import TrainConfig, check_config, learning_rate
from hyena.training.launch import is_first, launched
from hyena.training.loop import NotFiniteError, Step, Update, reproducible, seed_of, train_steps
from hyena.training.metrics import FILE, Metrics, Progress, Record, Report
from hyena.training.optimizer import adamw
from hyena.training.processes import StopRequest, read_request, stop_on_signal

if TYPE_CHECKING:
    from lightning_fabric.fabric import Fabric

# Seed of the validation windows: the same ones whatever the run's seed, so that runs compare.
_VALIDATION_SEED = 0


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


@dataclass
class _Data:
    """What a run reads."""

    training: WindowSampler
    validation: WindowSampler | None
    tokenizer: Tokenizer
    fingerprint: dict[str, str]
    note: str


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
    check_config(config)
    data = _open_data(config)
    first = is_first()
    with stop_on_signal() as request, opened(config, data.fingerprint, first=first) as start:
        model = _model(config, start)
        optimizer = adamw(model, config.optimizer)
        # If one of them was refused, nothing has been written.
        with (
            launched(config, ready) as fabric,
            reproducible(fabric.device, deterministic=config.deterministic),
        ):
            if fabric.global_rank > 0:
                return _Run(config, data, start, model, optimizer, fabric).train(request)
            tidy(config, start)
            with written(config.out / FILE, checkpoints_of(config.out)):
                metrics = Metrics(config.out, step=start.state.step, tensorboard=config.tensorboard)
            progress = Progress(start.state.step, config.steps, report)
            try:
                for note in data.note, _without_effect(config.model):
                    if note:
                        progress.message(note)
                run = _Run(config, data, start, model, optimizer, fabric, metrics, progress)
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


def _open_data(config: TrainConfig) -> _Data:
    tokens = open_tokens(config.data, "train")
    tokens.check_vocabulary(config.model.vocab_size)
    if len(tokens) <= config.window():
        raise ValueError(
            f"{config.data} has {len(tokens):,} tokens to train on, too few for windows of "
            f"{config.window():,}; lower length or model.max_length, or prepare more text"
        )
    across = config.cross_documents
    training = WindowSampler(
        tokens, config.window(), config.batch, config.seed, cross_documents=across
    )
    validation, note = None, ""
    if config.evaluation.every:
        if "validation" not in read_manifest(config.data).splits:
            raise ValueError(
                f"{config.data} has no validation split to evaluate on; prepare it with one, or "
                "train with --evaluation.every 0"
            )
        held_out = open_tokens(config.data, "validation")
        # Evaluation takes the memory of a training micro batch.
        batch = config.batch // config.accumulate
        length = min(config.window(), len(held_out) - 1)
        validation = WindowSampler(
            held_out, length, batch, _VALIDATION_SEED, cross_documents=across
        )
        if length < config.window():
            note = (
                f"the validation split has {len(held_out):,} tokens, fewer than a window of "
                f"{config.window():,}; it is evaluated in windows of {length:,}"
            )
    fingerprint = {"tokenizer": tokens.tokenizer.fingerprint}
    for name, split in read_manifest(config.data).splits.items():
        if name in ("train", "validation"):
            fingerprint |= split.sha256
    return _Data(training, validation, tokens.load_tokenizer(), fingerprint, note)


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
        config: TrainConfig,
        data: _Data,
        start: Start,
        model: LanguageModel,
        optimizer: torch.optim.Optimizer,
        fabric: Fabric,
        metrics: Metrics | None = None,
        progress: Progress | None = None,
    ) -> None:
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
                over = self.state.step >= config.steps
                done = f", where all {config.steps} steps are done" if over else ""
                progress.message(f"resuming from {start.checkpoint}{done}")

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
        batch = self.data.training.batch(number, fabric.global_rank, fabric.world_size)
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
        tokens = config.batch * config.window()
        state.step, state.tokens = state.step + 1, state.tokens + tokens
        self.signal = update.signal
        record: Record = {
            "step": state.step,
            "loss": update.loss,
            "lr": lr,
            "grad_norm": update.norm,
            "tokens": state.tokens,
            "tokens_per_s": tokens / update.seconds,
        }
        step, every, improved = state.step, config.evaluation.every, False
        if self.data.validation is not None and (step % every == 0 or step == config.steps):
            loss = self._evaluate(self.data.validation)
            record["validation_loss"] = loss
            if state.best is None or loss < state.best.validation_loss:
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

    def _learning_rate(self) -> float:
        """The peak of the parameters without one of their own, in the next update."""
        schedule, peak = self.config.schedule, self.config.optimizer.lr
        return learning_rate(
            self.state.step,
            peak=peak,
            start=schedule.start_lr,
            floor=schedule.floor(peak),
            warmup=schedule.warmup(self.config.steps),
            steps=self.config.steps,
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


def _model(config: TrainConfig, start: Start) -> LanguageModel:
    """The initial weights, the same for a seed whatever the device and precision, or saved ones."""
    if start.checkpoint is None:
        generator = torch.Generator().manual_seed(config.seed)
        with torch.random.fork_rng(devices=()):  # PyTorch's layers draw first, from its own
            model = LanguageModel(config.model, generator=generator)
    else:
        try:
            model = load(start.checkpoint)
        except (ValueError, FileNotFoundError) as error:
            advice = remedy(start.checkpoint)
            raise ValueError(f"cannot resume: {error}; or {advice}") from error
        if to_plain(model.config) != to_plain(config.model):
            raise ValueError(
                f"cannot resume: the model of {start.checkpoint / 'config.json'} is not that of "
                f"training.json; {remedy(start.checkpoint)}"
            )
    if config.precision == "64":
        model.double()
    model.activation_checkpointing = config.activation_checkpointing
    model.working_memory, model.kept_memory = config.working_memory, config.kept_memory
    return model


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
