"""The loss of a batch, whole and in parts."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hyena.experiments.curriculum import micro_batches
from hyena.experiments.measure import TaskLoss
from hyena.tasks import IGNORE, Batch
from hyena.training.loop import OneProcess, Step, backward


class Table(nn.Module):
    """A row of logits for each token."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(5, columns, generator=draw, dtype=torch.float64))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.weight[inputs].squeeze(-1)


def gradient(model: nn.Module, parts: list[Batch]) -> tuple[torch.Tensor, TaskLoss]:
    """Adds the gradient of a batch; returns its loss, and what was counted."""
    loss = TaskLoss(parts)
    return backward(model, Step(parts, loss, 1.0, 0), OneProcess()), loss


def batch_of_tokens() -> Batch:
    draw = torch.Generator().manual_seed(1)
    inputs = torch.randint(5, (4, 6), generator=draw)
    targets = torch.randint(5, (4, 6), generator=draw)
    targets[0, 1:] = IGNORE  # rows with different numbers of targets
    targets[2] = IGNORE
    return Batch(inputs, targets, targets != IGNORE)


@pytest.mark.parametrize("tokens", [6, 12, 100])
def test_each_target_counts_the_same_however_the_batch_is_cut(tokens: int) -> None:
    model, whole, batch = Table(5), Table(5), batch_of_tokens()
    loss, counted = gradient(model, micro_batches(batch, tokens))
    best = whole(batch.inputs).argmax(-1)
    assert counted.right == int((best == batch.targets)[batch.answers].sum())
    assert counted.answers == int(batch.answers.sum()) == 13
    expected = F.cross_entropy(whole(batch.inputs).flatten(0, 1), batch.targets.flatten())
    expected.backward()
    torch.testing.assert_close(loss, expected.detach(), check_dtype=False)
    torch.testing.assert_close(model.weight.grad, whole.weight.grad)


@pytest.mark.parametrize("tokens", [6, 100])
def test_numbers_have_squared_errors(tokens: int) -> None:
    model, whole, batch = Table(1), Table(1), batch_of_tokens()
    targets = batch.targets.double().where(batch.answers, torch.nan)
    numbers = batch._replace(targets=targets)
    loss, counted = gradient(model, micro_batches(numbers, tokens))
    assert counted.right == 0
    expected = (whole(batch.inputs) - targets)[batch.answers].square().mean()
    expected.backward()
    torch.testing.assert_close(loss, expected.detach(), check_dtype=False)
    torch.testing.assert_close(model.weight.grad, whole.weight.grad)


def test_a_batch_without_targets_is_refused() -> None:
    batch = batch_of_tokens()
    empty = batch._replace(targets=torch.full_like(batch.targets, IGNORE))
    with pytest.raises(ValueError, match="a batch without a single target"):
        TaskLoss([empty])
