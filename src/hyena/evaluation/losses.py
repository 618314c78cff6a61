"""The losses of targets, by any model that can be called."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hyena.arguments import IGNORE
from hyena.filters.evaluation_mode import evaluation_mode
from hyena.ops.arguments import checked_device
from hyena.ops.observed import is_hooked

# B batch, L length of its windows, V vocabulary.

Model = Callable[..., Tensor]
"""``model(ids (B, L) int64) -> logits (B, L, V)``."""


@contextmanager
def evaluated(model: Model, device: torch.device | str | None) -> Iterator[torch.device]:
    """The device where the model is; within, it is in eval mode and no gradients are recorded, and
    its mode is restored.

    Raises: ValueError if there is no such device.
    """
    where = checked_device("evaluate", device) if device is not None else _device_of(model)
    mode: AbstractContextManager[object] = (
        evaluation_mode(model) if isinstance(model, nn.Module) else nullcontext()
    )
    with mode, torch.no_grad():
        yield where


def check_model(model: object) -> None:
    """Raises TypeError if the model cannot be called."""
    if not callable(model):
        raise TypeError(f"evaluate: expected a model that can be called, got {model!r:.40}")


def target_losses(model: Any, tokens: Tensor, scored: Tensor, device: torch.device) -> Tensor:
    """Negative log-likelihoods in nats, float64 on the CPU, of the targets that are scored, in
    order; if not all are, there may be zeros between them.

    Args: the model; windows (B, L + 1), each a window's inputs with its targets one later; which of
        the targets are scored, (B, L) bool; where the model is.
    Raises: ValueError if a loss is not a number, or a target is outside the vocabulary.
    """
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    if _has_losses(model):
        losses = model.token_losses(inputs.to(device), targets.masked_fill(~scored, IGNORE))
    else:
        losses = _losses(model(inputs.to(device)), targets[scored], scored.to(device))
    losses = losses.cpu().double()  # on the CPU: MPS has no float64
    if bool(losses.isnan().any()):  # an infinite loss is that of a model which rules a target out
        raise ValueError("evaluate: the model's logits are not finite; its weights may be damaged")
    return losses


def _has_losses(model: Any) -> bool:
    """Whether a model has a way to losses without all logits, and its call does nothing else: a
    subclass or a wrapper may have a forward of its own, and hooks may change logits."""
    return "token_losses" in vars(type(model)) and not is_hooked(model)


def _losses(logits: Tensor, wanted: Tensor, scored: Tensor) -> Tensor:
    """Of the targets wanted where logits (B, L, V) are scored, (B, L) bool."""
    vocabulary = logits.shape[-1]
    if int(wanted.max()) >= vocabulary:
        raise ValueError(
            f"evaluate: token id {int(wanted.max())} is outside the model's vocabulary of "
            f"{vocabulary}; was the text prepared with another tokenizer?"
        )
    # Only the scored rows are widened: the whole (B, L, V) in float32 can be gigabytes.
    chosen = logits[scored]
    if chosen.dtype in (torch.float16, torch.bfloat16):
        chosen = chosen.float()
    return F.cross_entropy(chosen, wanted.to(chosen.device), reduction="none")


def _device_of(model: Model) -> torch.device:
    parameter = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    return torch.device("cpu") if parameter is None else parameter.device
