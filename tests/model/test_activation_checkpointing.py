"""Recomputing activations changes memory and time, and nothing else."""

from typing import Any

import pytest
import torch
from small_models import PATTERNS, gradients, small_model, tokens
from torch import Tensor, nn


@pytest.mark.parametrize("mixers", PATTERNS)
@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("packed", [False, True])
def test_loss_and_gradients_are_the_same(mixers: str, dropout: float, packed: bool) -> None:
    model, ids = small_model(mixers, dropout=dropout).train(), tokens(2, 16)
    names = list(model.state_dict())
    options = {"document_ids": (torch.arange(32).view(2, 16) % 16) // 5} if packed else {}
    calls = count_calls(model.blocks[0].mlp)
    found: list[tuple[Tensor, dict[str, Tensor], int]] = []
    for recompute in (False, True):
        model.activation_checkpointing = recompute
        torch.manual_seed(0)
        calls.clear()
        loss = model(ids, **options).square().mean()
        loss.backward()
        found.append((loss.detach(), gradients(model), len(calls)))
    (loss, grads, once), (loss_again, grads_again, twice) = found
    assert (once, twice) == (1, 2)
    assert torch.equal(loss, loss_again)
    assert all(torch.equal(grads[name], grads_again[name]) for name in grads)
    assert list(model.state_dict()) == names


def test_in_evaluation_nothing_is_recomputed() -> None:
    model = small_model()
    model.activation_checkpointing = True
    calls = count_calls(model.blocks[0].mlp)
    model(tokens(1, 8)).sum().backward()
    assert len(calls) == 1


def count_calls(module: nn.Module) -> list[None]:
    """A list that grows by one at each call."""
    calls: list[None] = []

    def hook(module: nn.Module, inputs: Any) -> None:
        calls.append(None)

    module.register_forward_pre_hook(hook)
    return calls
