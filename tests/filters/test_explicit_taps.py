"""Filters given tap by tap."""

import copy
import math

import pytest
import torch

from hyena.filters import ExplicitTaps
from hyena.filters.flops import FilterFlops


@pytest.mark.parametrize("length", [1, 4, 5, 6, 20])
def test_its_taps_and_zeros_beyond(length: int) -> None:
    taps = ExplicitTaps(3, 5, filters=2, dtype=torch.float64)
    h = taps(length)
    assert h.shape == (2, 3, length)
    assert h.is_contiguous()
    assert h.untyped_storage().nbytes() <= max(h.nbytes, taps.weight.nbytes)
    for lag in range(length):
        expected = taps.weight[..., lag] if lag < 5 else torch.zeros(2, 3, dtype=torch.float64)
        assert torch.equal(h[..., lag], expected)
    h.sum().backward()
    used = torch.zeros(2, 3, 5, dtype=torch.float64)
    used[..., : min(length, 5)] = 1
    assert taps.weight.grad is not None
    assert torch.equal(taps.weight.grad, used)


def test_initialised_as_a_convolution_is() -> None:
    taps = ExplicitTaps(500, 16)
    bound = float(torch.nn.Conv1d(1, 1, 16).weight.detach().abs().max())
    assert bound <= 0.25
    values = taps.weight.detach()
    assert 0.24 < float(values.abs().max()) <= 0.25
    assert abs(float(values.mean())) < 4 * 0.25 / 3**0.5 / 8000**0.5


def test_drawn_from_the_generator_alone() -> None:
    a, b = ExplicitTaps(3, 5), ExplicitTaps(3, 5)
    assert not torch.equal(a.weight, b.weight)
    for taps in (a, b):
        taps.draw(torch.Generator().manual_seed(3))
    assert torch.equal(a.weight, b.weight)


def test_in_float32_or_wider() -> None:
    taps = ExplicitTaps(3, 5)
    assert copy.deepcopy(taps).bfloat16()(7).dtype == torch.float32
    assert copy.deepcopy(taps).double()(7).dtype == torch.float64
    assert ExplicitTaps(3, 5, device="meta")(7).shape == (1, 3, 7)


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
@pytest.mark.parametrize("length", [1, 4, 5, 9])
def test_neighbours_share_the_filter_of_their_group(groups: int, length: int) -> None:
    taps = ExplicitTaps(6, 5, filters=2, groups=groups, dtype=torch.float64)
    assert taps.weight.shape == (2, groups, 5)
    h = taps(length)
    assert h.shape == (2, 6, length)
    for channel in range(6):
        expected = torch.zeros(2, length, dtype=torch.float64)
        shown = min(length, 5)
        expected[:, :shown] = taps.weight[:, channel // (6 // groups), :shown].detach()
        assert torch.equal(h[:, channel], expected)
    h.sum().backward()
    assert taps.weight.grad is not None
    used = torch.zeros_like(taps.weight)
    used[..., : min(length, 5)] = 6 / groups
    assert torch.equal(taps.weight.grad, used)


@pytest.mark.parametrize("groups", [None, 2])
def test_a_fixed_window_that_is_no_parameter(groups: int | None) -> None:
    taps = ExplicitTaps(6, 9, groups=groups, decay=True, dtype=torch.float64)
    assert set(taps.state_dict()) == {"weight"}
    count, h, weight = groups or 6, taps(12), taps.weight.detach()
    for channel in range(6):
        group = channel * count // 6
        rate = 10 ** (2 * group / (count - 1))
        for lag in range(9):
            window = math.exp(-rate * lag / 8)
            expected = float(weight[0, group, lag]) * window
            assert math.isclose(float(h[0, channel, lag].detach()), expected, rel_tol=1e-12)
    assert not h[..., 9:].any()
    h.sum().backward()
    assert taps.weight.grad is not None
    window = taps(9).detach()[:, :: 6 // count] / taps.weight.detach()
    assert torch.allclose(taps.weight.grad, window * (6 // count), rtol=1e-12)


@pytest.mark.parametrize("sizes", [{"taps": 1}, {"taps": 4, "groups": 1}])
def test_the_window_of_one_tap_or_one_group(sizes: dict[str, int]) -> None:
    taps = ExplicitTaps(6, **sizes, decay=True, dtype=torch.float64)
    lags = torch.arange(sizes["taps"], dtype=torch.float64)
    expected = taps.weight[0].expand(6, -1) * torch.exp(-lags / max(sizes["taps"] - 1, 1))
    assert torch.allclose(taps(sizes["taps"])[0], expected, rtol=1e-12)


def test_where_they_end_and_what_they_cost() -> None:
    assert ExplicitTaps(6, 9).support == 9
    assert ExplicitTaps(6, 9).flops(100) == FilterFlops(0, 0, 0)
    assert ExplicitTaps(6, 9, groups=2, decay=True).flops(100) == FilterFlops(0, 0, 3 * 2 * 9)


@pytest.mark.parametrize("groups", [4, 7, 12])
def test_groups_of_unequal_size_are_refused(groups: int) -> None:
    message = f"^ExplicitTaps: expected a divisor of the 6 channels as groups, got {groups}$"
    with pytest.raises(ValueError, match=message):
        ExplicitTaps(6, 5, groups=groups)
    with pytest.raises(ValueError, match=r"^ExplicitTaps: expected a whole number from 1 to .* as"):
        ExplicitTaps(6, 5, groups=0)
