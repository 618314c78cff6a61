"""The loss of a language model on a batch of windows, and its mean over a fixed set of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hyena.data import Windows
from hyena.filters.evaluation_mode import evaluation_mode


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean loss in nats per token, in float32 or wider.

    Args:
        logits: (B, L, V), any floating dtype; half precision is widened first.
        targets: (B, L), int64.

    Returns: a scalar, float64 for float64 logits and float32 otherwise.
    """
    if logits.dtype in (torch.bfloat16, torch.float16):
        logits = logits.float()
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def window_loss(model: Any, windows: Windows, device: torch.device) -> Tensor:
    """Loss of a model on windows.

    Args:
        model: maps (B, L) ids and ``document_ids`` to logits (B, L, V).
        windows: inputs, targets and document_ids, each (B, L), on the CPU.
        device: where the model is.

    Returns: a scalar, see `cross_entropy`.
    """
    inputs, targets, documents = windows
    # Ids never decrease within a window, so the two ends tell whether there is a boundary in it.
    # Without one the model takes its cheaper path.
    within_one = bool((documents[:, 0] == documents[:, -1]).all())
    logits = model(
        inputs.to(device, non_blocking=True),
        document_ids=None if within_one else documents.to(device, non_blocking=True),
    )
    return cross_entropy(logits, targets.to(device, non_blocking=True))


def mean_loss(model: torch.nn.Module, batches: Iterable[Windows], device: torch.device) -> float:
    """Mean loss over batches of equal size, without gradients and in evaluation mode."""
    with evaluation_mode(model), torch.no_grad():
        losses = [window_loss(model, batch, device) for batch in batches]
    return float(torch.stack(losses).mean())
