"""The training loss of a task."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hyena.tasks import IGNORE, Batch


def backward(model: nn.Module, parts: Sequence[Batch]) -> Tensor:
    """Adds the gradient of the mean loss over all targets of the parts; returns that loss.

    Cross-entropy in nats a token, or squared error where the targets are numbers. Each target
    counts the same, whichever part it is in.

    Returns: a scalar without gradient. Raises: ValueError if there is no target at all.
    """
    count = sum(int(has_target(part.targets).sum()) for part in parts)
    if not count:
        raise ValueError("the task gave a batch without a single target; is it too short?")
    total = torch.zeros(())
    for part in parts:
        loss = _loss_sum(model(part.inputs), part.targets) / count
        loss.backward()
        total += loss.detach()
    return total


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
