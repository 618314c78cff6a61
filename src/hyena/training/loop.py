"""The training loop.

Everything random in a step is a pure function of the seed, the step and the rank: the batch by
construction of the window sampler, dropout because the generator is seeded anew at every step. So
weights, moments and the step are the whole state, and a resumed run is bitwise the uninterrupted
one (same machine, threads and device; on CUDA with ``deterministic``).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from hyena.data import TokenFile, Tokenizer, Windows, WindowSampler, open_tokens, read_manifest
from hyena.files.records import to_plain
from hyena.model import LanguageModel, load
from hyena.model.saved import checkpoints_of, list_checkpoints
from hyena.training.checkpoint import (
    Best,
    TrainingState,
    point_to_best,
    prune,
    remedy,
    restore_optimizer,
    unwritable,
    write_checkpoint,
)
from hyena.training.config import TrainConfig, check_config
from hyena.training.launch import is_first, launched
from hyena.training.loss import mean_loss, window_loss
from hyena.training.metrics import FILE, Metrics, Record
from hyena.training.optimizer import adamw, scale_learning_rates
from hyena.training.progress import Progress, SilentProgress, open_progress
from hyena.training.run_folder import Start, opened, tidy
from hyena.training.schedule import learning_rate
from hyena.training.signals import StopRequest, stop_on_signal

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


def train(config: TrainConfig) -> TrainResult:
    """Train a language model, or go on training it.

    Writes checkpoints, ``metrics.jsonl`` and (optionally) TensorBoard events into ``config.out``.
    The first SIGINT or SIGTERM ends the run after the current step with a checkpoint; the second
    raises KeyboardInterrupt at once. With several devices this starts the other processes.

    Args:
        config: see `TrainConfig`.

    Returns: where the run stands.
    Raises: ValueError for a configuration that cannot work or is not the resumed run's;
        FileNotFoundError for missing data; FileExistsError if ``out`` holds a run and ``resume``
        is off; OSError if something cannot be written; RuntimeError if the loss is not finite, a
        process of the run stops, or another run uses the folder; ImportError for a missing
        package. After any of them the checkpoints written before are intact.
    """
    return train_process(config, ready=lambda: None)


def train_process(config: TrainConfig, ready: Callable[[], None]) -> TrainResult:
    """One process of `train`; ``ready`` is called when only the other processes are missing."""
    check_config(config)
    data = _open_data(config)
    with (
        stop_on_signal() as request,
        opened(config, data.fingerprint, first=is_first()) as start,
        launched(config, ready) as fabric,
    ):
        if fabric.global_rank > 0:
            with _reproducible(config, fabric.device):
                return _run(config, data, start, fabric, request, None, SilentProgress())
        tidy(config, start)
        metrics = _open_metrics(config, start)
        progress = open_progress(start.state.step, config.steps)
        try:
            if data.note:
                progress.message(data.note)
            with _reproducible(config, fabric.device):
                return _run(config, data, start, fabric, request, metrics, progress)
        finally:
            progress.close()
            metrics.close()


def _open_data(config: TrainConfig) -> _Data:
    tokens = open_tokens(config.data, "train")
    tokens.check_vocabulary(config.model.vocab_size)
    training = _sampler(tokens, config, config.window(), config.batch, config.seed)
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
        validation = _sampler(held_out, config, length, batch, _VALIDATION_SEED)
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


def _sampler(
    tokens: TokenFile, config: TrainConfig, length: int, batch: int, seed: int
) -> WindowSampler:
    return WindowSampler(tokens, length, batch, seed, cross_documents=config.cross_documents)


def _run(
    config: TrainConfig,
    data: _Data,
    start: Start,
    fabric: Fabric,
    request: StopRequest,
    metrics: Metrics | None,
    progress: Progress,
) -> TrainResult:
    """The run as one process sees it; only the first has metrics and writes."""
    model = _model(config, start)
    raw_optimizer = adamw(model, config.optimizer)
    wrapped, optimizer = fabric.setup(model, raw_optimizer)
    if start.checkpoint is not None:
        restore_optimizer(start.checkpoint, raw_optimizer)
        progress.message(f"resuming from {start.checkpoint}")
    model.train()

    state = start.state
    checkpoints = checkpoints_of(config.out)
    world = fabric.world_size
    saved = start.checkpoint
    stop_at = config.steps
    if config.stop_after is not None:
        stop_at = min(stop_at, state.step + config.stop_after)
    stopped = 0

    while state.step < stop_at and not stopped:
        begin = time.perf_counter()
        lr = _learning_rate(state.step, config)
        scale_learning_rates(raw_optimizer, lr / config.optimizer.lr)
        _seed_dropout(config.seed, state.step, fabric.global_rank)
        batch = data.training.batch(state.step, fabric.global_rank, world)
        loss_sum = _backward(fabric, wrapped, batch, config)
        norm = fabric.clip_gradients(
            wrapped,
            optimizer,
            max_norm=float("inf") if config.clip is None else config.clip,
            error_if_nonfinite=False,
        )
        assert norm is not None
        loss, grad_norm, stopped = _agree(fabric, loss_sum, norm, request)
        step = state.step + 1
        # Before the update, so that nothing bad ever reaches the weights.
        _check_finite(loss, grad_norm, step, lr, checkpoints)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        state.step = step
        state.tokens += config.batch * config.window()
        record: Record = {
            "step": step,
            "loss": loss,
            "lr": lr,
            "grad_norm": grad_norm,
            "tokens": state.tokens,
            "tokens_per_s": config.batch * config.window() / (time.perf_counter() - begin),
        }

        last = step == stop_at or bool(stopped)
        every = config.evaluation.every
        improved = False
        if data.validation is not None and (step % every == 0 or step == config.steps):
            validation_loss = _evaluate(fabric, model, data.validation, config)
            record["validation_loss"] = validation_loss
            if state.best is None or validation_loss < state.best.validation_loss:
                state.best = Best(step, validation_loss)
                improved = config.checkpoint.best
        if metrics is not None:
            _log(metrics, record, config, checkpoints)
        progress.update(record)
        due = config.checkpoint.every and step % config.checkpoint.every == 0
        if metrics is not None and (due or improved or last):
            saved = _save(config, state, model, raw_optimizer, data.tokenizer, metrics)
    if stopped and metrics is not None:
        progress.message(f"stopped at step {state.step}; saved {saved}")
    assert saved is not None or metrics is None
    return TrainResult(saved or checkpoints, state.step, config.steps, stopped, fabric.global_rank)


def _model(config: TrainConfig, start: Start) -> LanguageModel:
    """The initial weights, the same for a seed whatever the device and precision, or saved ones."""
    if start.checkpoint is None:
        generator = torch.Generator().manual_seed(config.seed)
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
    return model


def _backward(fabric: Fabric, wrapped: Any, batch: Windows, config: TrainConfig) -> Tensor:
    """Accumulate the gradient of the mean loss over the step's batch; returns this rank's part."""
    columns = (column.chunk(config.accumulate) for column in batch)
    parts = [Windows(*micro) for micro in zip(*columns, strict=True)]
    total = torch.zeros((), device=fabric.device)
    for i, micro in enumerate(parts):
        with fabric.no_backward_sync(wrapped, enabled=i + 1 < len(parts)):
            loss = window_loss(wrapped, micro, fabric.device) / len(parts)
            fabric.backward(loss)
        total = total + loss.detach()
    return total


def _agree(
    fabric: Fabric, loss: Tensor, norm: Tensor, request: StopRequest
) -> tuple[float, float, int]:
    """Mean loss over the ranks, norm of the gradient, and the signal to stop for (0: none).

    All ranks get the same answer, so that all of them stop at the same step.
    """
    if fabric.world_size > 1:
        shared = torch.tensor(
            [float(loss), float(request.signal)], dtype=torch.float64, device=fabric.device
        )
        total, signals = fabric.all_reduce(shared, reduce_op="sum").tolist()  # type: ignore[union-attr]
        signal = request.signal or int(signals)
        return total / fabric.world_size, float(norm), signal
    # One transfer from the device for both.
    mean, size = torch.stack([loss, norm.to(loss.dtype)]).tolist()
    return mean, size, request.signal


def _check_finite(loss: float, norm: float, step: int, lr: float, checkpoints: Path) -> None:
    for name, value in (("loss", loss), ("gradient norm", norm)):
        if not np.isfinite(value):
            saved = list_checkpoints(checkpoints)
            good = f"last good checkpoint: {saved[-1]}" if saved else "there is no checkpoint yet"
            raise RuntimeError(
                f"{name} is {value} at step {step} (lr {lr:.2g}); {good}. Try a lower "
                "optimizer.lr, a longer schedule.warmup_steps, a smaller clip or another seed"
            )


def _evaluate(
    fabric: Fabric, model: LanguageModel, sampler: WindowSampler, config: TrainConfig
) -> float:
    """Mean validation loss over all ranks, in nats per token."""
    batches = (
        sampler.batch(i, fabric.global_rank, fabric.world_size)
        for i in range(config.evaluation.batches)
    )
    # The bare model: data parallel wrappers talk to each other in every forward.
    with fabric.autocast():
        loss = mean_loss(model, batches, fabric.device)
    if fabric.world_size == 1:
        return loss
    shared = torch.tensor(loss, dtype=torch.float64, device=fabric.device)
    return float(fabric.all_reduce(shared, reduce_op="mean"))  # type: ignore[arg-type]


def _open_metrics(config: TrainConfig, start: Start) -> Metrics:
    try:
        return Metrics(config.out, step=start.state.step, tensorboard=config.tensorboard)
    except OSError as error:
        raise unwritable(str(config.out / FILE), error, checkpoints_of(config.out)) from error


def _log(metrics: Metrics, record: Record, config: TrainConfig, checkpoints: Path) -> None:
    if record["step"] % config.log_every and "validation_loss" not in record:
        return
    try:
        metrics.write(record)
    except OSError as error:
        raise unwritable(str(config.out / FILE), error, checkpoints) from error


def _save(
    config: TrainConfig,
    state: TrainingState,
    model: LanguageModel,
    optimizer: torch.optim.Optimizer,
    tokenizer: Tokenizer,
    metrics: Metrics,
) -> Path:
    checkpoints = checkpoints_of(config.out)
    try:
        metrics.sync()
    except OSError as error:
        raise unwritable(str(config.out / FILE), error, checkpoints) from error
    path = write_checkpoint(checkpoints, state, model, optimizer, tokenizer)
    try:
        best = state.best if config.checkpoint.best else None
        if best is not None and best.step == state.step:
            point_to_best(checkpoints, best)
        prune(checkpoints, config.checkpoint.keep, best)
    except OSError as error:
        raise unwritable(str(checkpoints), error, checkpoints) from error
    return path


def _learning_rate(step: int, config: TrainConfig) -> float:
    return learning_rate(
        step,
        peak=config.optimizer.lr,
        start=config.schedule.start_lr,
        floor=config.schedule.floor(config.optimizer.lr),
        warmup=config.schedule.warmup(config.steps),
        steps=config.steps,
    )


@contextmanager
def _reproducible(config: TrainConfig, device: torch.device) -> Iterator[None]:
    """Leave the process's random state and determinism switch as they were."""
    devices = [device.index or 0] if device.type == "cuda" else []
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    if config.deterministic:
        # cuBLAS refuses to be deterministic without a workspace of fixed size.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)


def _seed_dropout(seed: int, step: int, rank: int) -> None:
    """Dropout draws from the global generators; this makes its draws a function of the step."""
    (mixed,) = np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)
    torch.manual_seed(int(mixed) & (2**63 - 1))
