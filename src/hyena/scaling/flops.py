"""Floating point operations of a whole training, counted in three ways."""

from __future__ import annotations

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from hyena.model import LanguageModel
from hyena.model.flops import ModelFlops
from hyena.scaling.record import Flops

_PASSES = 3  # the backward pass is two
# Parts of a mixer that are no mixing of tokens, and what makes its filters.
_WITHIN_TOKENS = ("projections", "output", "filter_network")


def training_flops(model: LanguageModel, length: int, tokens: int, batch: int = 1) -> Flops:
    """Operations of the forward and backward passes of all tokens of a training.

    Recomputed activations, evaluations and the optimizer are not among them.

    Args:
        model: that is trained. PyTorch's counter watches it on two windows.
        length: tokens in a window.
        tokens: of the training, all windows together.
        batch: windows in a pass, over which the filters are shared.

    Raises: ValueError if length or batch is below 1, or the model refuses the length.
    """
    table = model.flops(length, batch)
    counted = _counted(model, length, batch)
    return Flops(
        paper=_PASSES * tokens * _causal(table.paper),
        executed=_PASSES * tokens * _causal(table.executed),
        counted=None if counted is None else _PASSES * tokens * counted / (batch * length),
    )


def _causal(count: ModelFlops) -> float:
    """A token's, of a forward pass without attention's pairs in the future."""
    return count.per_token(count.causal)


def _counted(model: LanguageModel, length: int, batch: int) -> float | None:
    """What PyTorch's counter sees of a forward pass, see `hyena.scaling.record.Flops`."""
    one, two = _seen(model, length, 1), _seen(model, length, 2)
    if one is None or two is None:
        return None
    return one + (batch - 1) * (two - one)  # filters are made once


def _seen(model: LanguageModel, length: int, batch: int) -> float | None:
    training = model.training
    model.train()  # or filters are kept from one pass to the next
    ids = torch.zeros(batch, length, dtype=torch.int64, device=model.embedding.weight.device)
    # The counter does not know the fused attention of the CPU; this one is plain products.
    products = sdpa_kernel(SDPBackend.MATH)
    try:
        with torch.no_grad(), products, FlopCounterMode(display=False) as counter:
            model(ids)
    finally:
        model.train(training)
    counts, name = counter.get_flop_counts(), type(model).__name__
    for i, layer in enumerate(model.flops(length, batch).executed.layers):
        within_tokens = sum(layer.parts.get(part, 0) for part in _WITHIN_TOKENS)
        if sum(counts.get(f"{name}.blocks.{i}.mixer", {}).values()) <= within_tokens:
            return None
    return float(counter.get_total_flops())
