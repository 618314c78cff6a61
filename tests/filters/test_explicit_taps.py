"""Filters given tap by tap."""

import copy

import pytest
import torch

from hyena.filters import ExplicitTaps


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
