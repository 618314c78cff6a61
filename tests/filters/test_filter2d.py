"""The filter of images against its formula, computed number by number."""

import math
import re
from typing import Any

import pytest
import torch
from comparison import assert_close
from formula import encoding_at
from torch import Tensor

from hyena.filters import HyenaFilter2d
from hyena.ops import long_conv2d

SIZE = (4, 6)


def make(**options: Any) -> HyenaFilter2d:
    return HyenaFilter2d(3, SIZE, width=7, dtype=torch.float64, **options)


def taps_at(filter: HyenaFilter2d, down: int, across: int) -> list[float]:
    """h of each channel at a lag."""
    (H, W), x = filter.size, []
    for lag, side in ((down, H), (across, W)):
        x += encoding_at(lag, side, filter.emb_dim)
    freq = filter.sine_freq.tolist()
    *inner, last = filter.layers
    for layer in inner:
        rows = zip(freq, layer.weight.tolist(), layer.bias.tolist(), strict=True)
        x = [
            math.sin(f * (sum(a * b for a, b in zip(row, x, strict=True)) + c))
            for f, row, c in rows
        ]
    h = [sum(a * b for a, b in zip(row, x, strict=True)) for row in last.weight.tolist()]
    places = abs(down) / (H - 1), abs(across) / (W - 1)
    rates = filter.decay.tolist()
    return [
        value * math.exp(-places[0] * rates[0][d]) * math.exp(-places[1] * rates[1][d])
        for d, value in enumerate(h)
    ]


@pytest.mark.parametrize(
    "options",
    [{}, {"causal": True}, {"emb_dim": 3, "depth": 2}, {"sine_freq": 1.0, "fast_decay": 0.1}],
    ids=str,
)
def test_equals_the_formula(options: dict[str, Any]) -> None:
    filter = make(**options)
    H, W = SIZE
    rows = range(H) if filter.causal else range(1 - H, H)
    columns = range(W) if filter.causal else range(1 - W, W)
    expected = torch.tensor(
        [[taps_at(filter, i, j) for j in columns] for i in rows], dtype=torch.float64
    ).permute(2, 0, 1)
    assert_close(filter(), expected, 1e-11)


def test_the_windows_close_from_slow_to_fast_over_the_channels() -> None:
    filter = make()
    slow, fast = math.log(100) / 1.5, math.log(100) / 0.3
    expected = torch.tensor([slow, (slow + fast) / 2, fast], dtype=torch.float64).expand(2, -1)
    assert_close(filter.decay, expected, 1e-6)
    assert [name for name, _ in filter.named_buffers()] == ["decay"]


def test_every_parameter_is_trained() -> None:
    filter = make()
    u = torch.randn(2, 3, *SIZE, dtype=torch.float64)
    y = long_conv2d(u, filter(), filter.skip)
    (y * torch.randn_like(y)).sum().backward()
    for name, parameter in filter.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.any()), name


@pytest.mark.cpu
def test_narrow_weights_give_wide_taps() -> None:
    filter = make()
    expected = filter().float()
    with torch.autocast("cpu", torch.bfloat16):
        h = filter.float()()
    assert_close(h, expected, 1e-5)
    assert filter.bfloat16()().dtype == torch.float32


def test_an_image_of_one_row_and_a_smaller_one() -> None:
    filter = HyenaFilter2d(2, (1, 5))
    assert filter().shape == (2, 1, 9)
    assert bool(filter().isfinite().all())
    u, h = torch.randn(1, 2, 1, 3), filter()
    assert_close(long_conv2d(u, h), long_conv2d(u, h[:, :, 2:7]), 1e-6)


def adapted(layer: torch.nn.Module, x: tuple[Tensor], y: Tensor) -> Tensor:
    return 2 * y


def test_hooks_on_its_layers_count() -> None:
    filter = make()
    before = filter()
    filter.layers[-1].register_forward_hook(adapted)
    assert_close(filter(), 2 * before, 1e-15)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"emb_dim": 4}, "expected an odd emb_dim ≥ 3, got 4"),
        ({"depth": 1}, "expected depth ≥ 2 linear layers, got 1"),
        (
            {"fast_decay": 2.0},
            "expected 0.001 ≤ fast_decay ≤ slow_decay, got fast_decay=2.0, slow_decay=1.5",
        ),
        ({"size": 4}, "expected size = (height, width) in pixels, got 4"),
        ({"size": (4, 0)}, "width: expected at least 1, got 0"),
        ({"channels": 0}, "expected a whole number from 1 to 1048576 as channels, got 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(f'HyenaFilter2d: {message}')}$"):
        HyenaFilter2d(**{"channels": 3, "size": SIZE, **options})
