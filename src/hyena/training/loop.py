"""The training loop: updates of a model, of whatever is trained, for as long as it is to be.

`hyena.training.train` and `hyena.experiments.run_cell` are trained by it. Everything random in an
update is a pure function of what a `Step` is made from: the batch is drawn by its number, and
dropout because its generators are seeded anew. So weights, moments and what a `Course` writes down
are the whole state, and a resumed training is bitwise the uninterrupted one (same machine, threads
and device; on CUDA with deterministic algorithms).
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from hyena.training.parts import is_in_parts, whole
from hyena.training.processes import StopRequest

if TYPE_CHECKING:
    from lightning_fabric.fabric import Fabric

Part = TypeVar("Part")


@dataclass(frozen=True)
class Step(Generic[Part]):
    """An update to be made.

    Attributes:
        parts: its batch in micro batches, which save memory; their gradients add up.
        loss: of a model on a part. Those of all parts add up to what is to become less.
        factor: of the learning rates' peaks.
        seed: of dropout.
    """

    parts: Sequence[Part]
    loss: Callable[[Any, Part], Tensor]
    factor: float
    seed: int


@dataclass(frozen=True)
class Update:
    """An update that was made.

    Attributes:
        loss: before it, the mean over the processes.
        norm: of the gradient, before it was clipped.
        seconds: that it took.
        signal: that one of the processes was sent, 0 for none: the same in all of them.
    """

    loss: float
    norm: float
    seconds: float
    signal: int


class Course(Protocol[Part]):
    """What is trained, and for how long: all that a run and a cell differ in."""

    def is_over(self) -> bool:
        """Whether no update is left to be made."""

    def step(self) -> Step[Part]:
        """The next one."""

    def updated(self, update: Update) -> None:
        """Takes note of an update, with the weights that it led to."""


class NotFiniteError(RuntimeError):
    """A loss or gradient that is not finite; the weights are those before it."""


class OneProcess:
    """What the loop needs of Fabric, without the package: one process, in float32 on the CPU."""

    device = torch.device("cpu")
    world_size = 1

    def backward(self, loss: Tensor) -> None:
        """Adds the gradient."""
        loss.backward()

    def no_backward_sync(self, module: Any, enabled: bool) -> AbstractContextManager[None]:
        """Nobody waits for it."""
        return nullcontext()

    def clip_gradients(
        self, module: Any, optimizer: Any, *, max_norm: float, error_if_nonfinite: bool
    ) -> Tensor:
        """Clips it, and returns its norm."""
        return nn.utils.clip_grad_norm_(
            module.parameters(), max_norm, error_if_nonfinite=error_if_nonfinite
        )


def train_steps(
    course: Course[Part],
    model: Any,
    optimizer: torch.optim.Optimizer,
    *,
    clip: float | None,
    request: StopRequest,
    fabric: Fabric | OneProcess,
) -> None:
    """Trains a model until its course is over.

    Args:
        course: what its steps are, and when they are over.
        model: in training mode, as ``fabric`` has set it up.
        optimizer: of `hyena.training.adamw`.
        clip: largest global norm of the gradient, None for any.
        request: of a signal to this process, which each `Update` passes on.
        fabric: where it is trained.

    Raises: NotFiniteError before an update that would spoil the weights; whatever course raises.
    """
    while not course.is_over():
        begin = time.perf_counter()
        step = course.step()
        for group in optimizer.param_groups:
            group["lr"] = step.factor * group["peak_lr"]
        torch.manual_seed(step.seed)
        own_loss = backward(model, step, fabric)
        own_norm = fabric.clip_gradients(
            model,
            optimizer,
            max_norm=math.inf if clip is None else clip,
            error_if_nonfinite=False,
        )
        assert own_norm is not None
        loss, norm, signal = _agree(fabric, own_loss, whole(own_norm), request)
        for what, value in (("loss", loss), ("gradient norm", norm)):
            if not math.isfinite(value):
                raise NotFiniteError(f"{what} is {value}")
        # Fabric has no part in it: no `Precision` scales gradients.
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        course.updated(Update(loss, norm, time.perf_counter() - begin, signal))


def backward(model: Any, step: Step[Part], fabric: Fabric | OneProcess) -> Tensor:
    """Adds up the gradient over the parts of a step; returns this process's loss, a scalar."""
    total = torch.zeros((), device=fabric.device)
    waits = not is_in_parts(model)  # or gradients would be whole until the last part
    for i, part in enumerate(step.parts):
        with fabric.no_backward_sync(model, enabled=waits and i + 1 < len(step.parts)):
            loss = step.loss(model, part)
            fabric.backward(loss)
        total = total + loss.detach()
    return total


def _agree(
    fabric: Fabric | OneProcess, loss: Tensor, norm: Tensor, request: StopRequest
) -> tuple[float, float, int]:
    """Mean loss over the processes, norm of the gradient, and the signal to stop for (0: none).

    All processes get the same answer, so that all of them stop at the same step.
    """
    if fabric.world_size > 1:
        own = [float(loss), float(request.signal)]
        shared = torch.tensor(own, dtype=torch.float64, device=fabric.device)
        each = fabric.all_gather(shared).tolist()  # type: ignore[union-attr]
        losses, signals = zip(*each, strict=True)
        wrong = [rank for rank, one in enumerate(losses) if not math.isfinite(one)]
        if wrong:
            raise NotFiniteError(f"loss of process {wrong[0]} is {losses[wrong[0]]}")
        return sum(losses) / len(losses), float(norm), int(max(signals))
    # One transfer from the device for both.
    mean, size = torch.stack([loss, norm.to(loss.dtype)]).tolist()
    return mean, size, request.signal


def seed_of(*numbers: int) -> int:
    """A seed that is a function of some numbers, such as a run's seed and a step."""
    (mixed,) = np.random.SeedSequence(list(numbers)).generate_state(1, np.uint64)
    return int(mixed) & (2**63 - 1)


@contextmanager
def reproducible(
    device: torch.device, *, deterministic: bool = False, threads: int | None = None
) -> Iterator[None]:
    """Leaves the process's random state, choice of algorithms and threads as they were.

    Args:
        device: where is trained.
        deterministic: with deterministic algorithms only.
        threads: to compute with, None for as many as there are.
    """
    threads_before = torch.get_num_threads()
    devices = [device.index or 0] if device.type == "cuda" else []
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    if deterministic:
        # cuBLAS refuses to be deterministic without a workspace of fixed size.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        torch.set_num_threads(threads_before)
        torch.use_deterministic_algorithms(before, warn_only=warn_only)
