"""The sum with weights for the latest terms, against its definition."""

from collections.abc import Callable

import pytest
import torch
from comparison import assert_all_close, with_gradients
from torch import Tensor

from hyena.mixers.rivals.scans import windowed_sum as module
from hyena.mixers.rivals.scans.scan import linear_scan
from hyena.mixers.rivals.scans.windowed_sum import windowed_sum


def definition(x: Tensor, total: Tensor, kept: Tensor, weights: Tensor) -> Tensor:
    """Term by term, as in the docstring."""
    K, L = weights.shape[0], x.shape[-2]
    outputs = []
    for t in range(L):
        y, share = 0 * total[..., t, :], torch.ones_like(kept[..., 0, :])
        for j in range(min(K, t + 1)):
            y = y + weights[j] * share * x[..., t - j, :]
            share = share * kept[..., t - j, :]
        if t >= K:
            y = y + share * total[..., t - K, :]
        outputs.append(y)
    return torch.stack(outputs, dim=-2)


@pytest.mark.parametrize("tile", [1, 100, 1 << 16])  # numbers; a position has 12
@pytest.mark.parametrize("K", [1, 2, 5, 40])
@pytest.mark.parametrize("L", [1, 2, 5, 6, 23])
def test_equals_the_definition_with_every_gradient(
    L: int, K: int, tile: int, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TILE", tile)
    x, total = torch.randn(2, 2, 2, L, 3, generator=generator, dtype=torch.float64)
    kept = torch.rand(2, L, 3, generator=generator, dtype=torch.float64)
    kept[:, 0] = 0
    kept[:, L // 2] = 0
    weights = torch.randn(K, 3, generator=generator, dtype=torch.float64)
    expected = with_gradients(lambda x, t, w: definition(x, t, kept, w), x, total + x, weights)
    got = with_gradients(lambda x, t, w: windowed_sum(x, t, kept, w), x, total + x, weights)
    pairs = [(a, b) for a, b in zip(got, expected, strict=True) if bool(b.any())]
    assert_all_close([a for a, _ in pairs], [b for _, b in pairs], 1e-13)
    zeros = [a for a, b in zip(got, expected, strict=True) if not b.any()]
    assert not any(bool(a.any()) for a in zeros)  # the totals, where the window holds everything


def test_weights_of_one_change_nothing(generator: torch.Generator) -> None:
    x = torch.rand(2, 1, 50, 4, generator=generator, dtype=torch.float64)
    kept = torch.rand(1, 50, 4, generator=generator, dtype=torch.float64)
    kept[:, 0] = 0
    total = linear_scan(x, kept)
    y = windowed_sum(x, total, kept, torch.ones(7, 4, dtype=torch.float64))
    torch.testing.assert_close(y, total)


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")  # of PyTorch's kernel
@pytest.mark.parametrize("mapped", [(0, 0, 0, None), (None, None, None, 0), (1, 1, 0, 0)])
def test_mapped_over_rows_or_weights(
    mapped: tuple[int | None, ...], generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TILE", 60)  # five positions

    def draw(dim: int | None, *shape: int) -> torch.Tensor:
        size = list(shape)
        if dim is not None:
            size.insert(dim, 3)
        return torch.rand(size, generator=generator, dtype=torch.float64)

    shapes = (2, 1, 13, 6), (2, 1, 13, 6), (1, 13, 6), (4, 6)
    inputs = [draw(dim, *shape) for dim, shape in zip(mapped, shapes, strict=True)]

    def slopes(function: Callable[..., torch.Tensor]) -> tuple[torch.Tensor, ...]:
        def gradients(*x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return torch.func.grad(lambda *x: function(*x).square().sum(), (0, 1, 3))(*x)

        return torch.func.vmap(gradients, mapped)(*inputs)

    assert_all_close(slopes(windowed_sum), slopes(definition), 1e-13)


def test_its_gradients_have_gradients(generator: torch.Generator) -> None:
    x, total = torch.rand(2, 2, 1, 7, 2, generator=generator, dtype=torch.float64)
    kept = torch.rand(1, 7, 2, generator=generator, dtype=torch.float64)
    weights = torch.rand(3, 2, generator=generator, dtype=torch.float64)
    leaves = [t.requires_grad_() for t in (x, total, weights)]
    assert torch.autograd.gradgradcheck(lambda x, t, w: windowed_sum(x, t, kept, w), leaves)
