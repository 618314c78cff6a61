"""Filters given by their lowest frequencies."""

import copy
import math

import pytest
import torch
from comparison import assert_all_close, assert_close, with_module_gradients
from torch import Tensor

from hyena.filters import FourierTaps


def make(modes: int, period: int, filters: int = 1) -> FourierTaps:
    return FourierTaps(3, modes, period, filters=filters, dtype=torch.float64)


def by_definition(taps: FourierTaps, length: int) -> Tensor:
    """The waves one at a time."""
    period, h = taps.max_length, torch.zeros(1, dtype=torch.float64)
    t = torch.arange(length, dtype=torch.float64)
    for mode in range(taps.weight.shape[2]):
        re, im = taps.weight[..., mode, 0, None], taps.weight[..., mode, 1, None]
        angle = 2 * math.pi * mode * t / period
        both = 1 if mode == 0 or 2 * mode == period else 2  # the mode and its mirror image
        h = h + both / period * (re * angle.cos() - im * angle.sin() * (both == 2))
    return h


@pytest.mark.parametrize("filters", [1, 2])
@pytest.mark.parametrize(
    ("modes", "period"), [(1, 1), (1, 9), (2, 2), (3, 9), (5, 9), (4, 12), (7, 12)]
)
@pytest.mark.parametrize("length", [1, 2, 9, 30])
def test_equals_the_definition_with_every_gradient(
    length: int, modes: int, period: int, filters: int
) -> None:
    taps = make(modes, period, filters)
    unused = torch.ones(1, dtype=torch.float64)
    expected = with_module_gradients(taps, lambda u: u * by_definition(taps, length), unused)
    got = with_module_gradients(taps, lambda u: u * taps(length), unused)
    assert got[0].shape == (filters, 3, length)
    assert_all_close(got, expected, 1e-12)


def test_the_product_with_the_lowest_modes_of_the_input(generator: torch.Generator) -> None:
    # as the operator of Li et al. has it: a circular convolution over one period
    taps = make(4, 12)
    u = torch.randn(3, 12, generator=generator, dtype=torch.float64)
    modes = torch.fft.rfft(u)
    modes = torch.cat([modes[:, :4] * torch.view_as_complex(taps.weight)[0], 0 * modes[:, 4:]], 1)
    h, y = taps(12)[0], torch.zeros(3, 12, dtype=torch.float64)
    for t in range(12):
        for s in range(12):
            y[:, t] = y[:, t] + h[:, (t - s) % 12] * u[:, s]
    assert_close(y, torch.fft.irfft(modes, n=12), 1e-12)


def test_a_gain_of_about_one_for_each_mode() -> None:
    taps = FourierTaps(200, 9, 64)
    gain = torch.fft.rfft(taps(64)[0].detach())[:, 1:9].abs().square().mean()
    assert abs(float(gain) - 1) < 0.1


def test_drawn_from_the_generator_alone() -> None:
    a, b = make(3, 9), make(3, 9)
    assert not torch.equal(a.weight, b.weight)
    for taps in (a, b):
        taps.draw(torch.Generator().manual_seed(3))
    assert torch.equal(a.weight, b.weight)


@pytest.mark.cpu
def test_in_float32_or_wider() -> None:
    taps = FourierTaps(3, 5, 20)
    expected = taps(20)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(taps(20), expected)
    narrow = copy.deepcopy(taps).bfloat16()(20)
    assert_close(narrow, copy.deepcopy(taps).double()(20), 1e-2, dtype=torch.float32)
    assert FourierTaps(3, 5, 20, device="meta")(7).shape == (1, 3, 7)
