"""The training loss of a task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hyena.tasks import IGNORE, Batch


class Loss(NamedTuple):
    """What `backward` found."""

    value: Tensor
    """The mean loss, a scalar without gradient."""
    right: int
    """Answers that were right; 0 if the targets are numbers."""
    answers: int
    """Answers that were asked for."""


def backward(model: nn.Module, parts: Sequence[Batch]) -> Loss:
    """Adds the gradient of the mean loss over all targets of the parts.

    Cross-entropy in nats a token, or squared error where the targets are numbers. Each target
    counts the same, whichever part it is in.

    Raises: ValueError if there is no target at all.
    """
    count = sum(int(has_target(part.targets).sum()) for part in parts)
    if not count:
        raise ValueError("the task gave a batch without a single target; is it too short?")
    total, right, answers = torch.zeros(()), 0, 0
    for part in parts:
        outputs = model(part.inputs)
        loss = _loss_sum(outputs, part.targets) / count
        loss.backward()
        total += loss.detach()
        answers += int(part.answers.sum())
        if not part.targets.is_floating_point():
            found = outputs.detach()[part.answers].argmax(-1)
            right += int((found == part.targets[part.answers]).sum())
    return Loss(total, right, answers)


def has_target(targets: Tensor) -> Tensor:
    """Where there is a loss, (B, T) bool."""
    return ~targets.isnan() if targets.is_floating_point() else targets != IGNORE


def _loss_sum(outputs: Tensor, targets: Tensor) -> Tensor:
    if targets.is_floating_point():
        kept = has_target(targets)
        return F.mse_loss(outputs[kept], targets[kept], reduction="sum")
    return F.cross_entropy(
        outputs.flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="sum"
    )
