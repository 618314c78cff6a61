"""Hankel matrices: their rank, what they say of every recurrence, and the poles they give."""

import math
from typing import Any

import pytest
import torch
from comparison import assert_close
from torch import Tensor

from hyena.distillation import Modes, fit, hankel
from hyena.distillation.hankel import followed_by_zeros, realise, sampled_lags


def some_modes(
    filters: int, modes: int, generator: torch.Generator, slowest: float = 0.01
) -> Modes:
    """Poles apart in frequency, weights of size one."""
    shape = (filters, modes)
    place = (torch.arange(modes) + 0.8 * torch.rand(shape, generator=generator)) / modes
    rate = slowest + 0.1 * torch.rand(shape, generator=generator)
    weight = torch.complex(*torch.randn(2, *shape, generator=generator).double())
    return Modes(rate.double(), 0.1 + 2.9 * place.double(), weight)


def by_definition(taps: Tensor) -> Tensor:
    """The whole Hankel matrix of one filter (K,) whose first tap is of lag 1."""
    p = len(taps) // 2
    return torch.stack([taps[i : i + p] for i in range(p)])


@pytest.mark.parametrize("count", [4, 5, 40, 41])
def test_values_and_shifted_matrix_are_those_of_the_definition(
    count: int, generator: torch.Generator
) -> None:
    taps = torch.randn(3, count, generator=generator, dtype=torch.float64)
    found = hankel(taps, 6)
    for c in range(3):
        matrix = by_definition(taps[c])
        assert_close(found.singular_values()[c], torch.linalg.svdvals(matrix), 1e-12)
        k = found.shifted.shape[1]
        assert k == min(6, count // 2)
        p = len(matrix)
        shifted = torch.stack([taps[c, i + 1 : i + 1 + p] for i in range(p)])
        kept = torch.linalg.eigvals(shifted)  # of the whole, if all eigenvectors are kept
        if k == p:
            got = torch.linalg.eigvals(found.shifted[c])
            assert_close(got.abs().sort().values, kept.abs().sort().values, 1e-8)


@pytest.mark.parametrize("modes", [1, 2, 5])
@pytest.mark.parametrize("most", [30, 512])
def test_the_rank_is_the_order(modes: int, most: int, generator: torch.Generator) -> None:
    taps = some_modes(4, modes, generator).taps(201)[:, 1:]
    values = hankel(taps, 20, most=most).values.abs()
    assert float((values[:, 2 * modes] / values[:, 0]).max()) < 1e-12
    assert float((values[:, 2 * modes - 1] / values[:, 0]).min()) > 1e-8


@pytest.mark.parametrize("most", [25, 512])
def test_no_recurrence_of_an_order_is_nearer_than_the_bound(
    most: int, generator: torch.Generator
) -> None:
    near = some_modes(8, 6, generator)
    taps = near.taps(201)[:, 1:]
    matrices = hankel(taps, 12, most=most)
    for kept in (1, 2, 4):  # drop modes, and find the best weights for the rest
        bound = matrices.nearest(2 * kept)
        for c in range(8):
            t = torch.arange(1, 201)[:, None]
            waves = torch.exp(t * torch.complex(-near.rate[c, :kept], near.frequency[c, :kept]))
            columns = torch.cat([waves.real, waves.imag], dim=1)
            rest = taps[c] - columns @ torch.linalg.lstsq(columns, taps[c]).solution
            assert 0 < float(bound[c]) < float(rest.norm())
    assert float(matrices.nearest(12).max()) < 1e-10 * float(taps.norm())


@pytest.mark.parametrize("most", [40, 512])
def test_the_poles_are_found_again(most: int, generator: torch.Generator) -> None:
    true = some_modes(4, 3, generator)
    taps = true.taps(301)[:, 1:]
    rate, frequency, grows = realise(hankel(taps, 8, most=most), 3, 300)
    by_frequency = frequency.argsort(1)
    assert_close(frequency.gather(1, by_frequency), true.frequency, 1e-7)
    assert_close(rate.gather(1, by_frequency), true.rate, 1e-5)
    assert not bool(grows.any())


def test_real_poles_are_modes_of_their_own() -> None:
    t = torch.arange(1, 100, dtype=torch.float64)
    taps = (0.9**t - 0.5 * 0.6**t + 0.3 * (-0.7) ** t)[None]
    rate, frequency, _ = realise(hankel(taps, 6), 3, len(t))
    order = rate[0].argsort()
    wanted = torch.tensor([-math.log(0.9), -math.log(0.7), -math.log(0.6)], dtype=torch.float64)
    assert_close(rate[0][order], wanted, 1e-9)
    assert_close(frequency[0][order], torch.tensor([0, math.pi, 0], dtype=torch.float64), 1e-12)


def test_a_growing_filter_gets_stable_poles_and_says_so() -> None:
    t = torch.arange(1, 65, dtype=torch.float64)
    taps = (1.02**t * torch.cos(0.3 * t))[None]
    rate, frequency, grows = realise(hankel(taps, 2), 1, 64)
    assert bool(grows[0])
    assert float(rate[0, 0]) == pytest.approx(1e-3 / 64)
    assert float(frequency[0, 0]) == pytest.approx(0.3)
    rate, _, grows = realise(hankel(followed_by_zeros(taps), 2), 1, 64)
    assert float(rate.min()) > 0


def test_a_sample_takes_one_lag_of_each_piece() -> None:
    assert torch.equal(sampled_lags(10, 10), torch.arange(10))
    lags = sampled_lags(1000, 10)
    assert torch.equal(lags // 100, torch.arange(10))
    assert lags.diff().unique().numel() > 3
    assert torch.equal(lags, sampled_lags(1000, 10))


@pytest.mark.parametrize(
    "taps",
    [None, [1.0], torch.zeros(3), torch.zeros(2, 8), torch.zeros(0, 8).double(), 3],
)
def test_taps_of_another_kind(taps: Any) -> None:
    for call in (lambda: hankel(taps, 2), lambda: fit(taps, order=2)):
        with pytest.raises(
            (TypeError, ValueError), match=r"^(hankel|fit): expected (a tensor|taps)"
        ):
            call()


@pytest.mark.parametrize("value", [0, 1.5, "x", None, 10**19])
def test_sizes_that_are_none(value: Any) -> None:
    taps = torch.randn(2, 12, dtype=torch.float64)
    for name in ("order", "most"):
        with pytest.raises(ValueError, match=f"^hankel: {name}: expected "):
            hankel(taps, **{"order": 2, name: value})
    with pytest.raises(ValueError, match=r"^fit: largest: expected "):
        fit(taps, tolerance=0.1, largest=value)
    with pytest.raises(ValueError, match=r"^fit: expected a tolerance above 0, got -1$"):
        fit(taps, tolerance=-1)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e200])
def test_taps_that_are_not_finite(value: float) -> None:
    taps = torch.ones(2, 12, dtype=torch.float64)
    taps[1, 3] = value
    for call in (lambda: hankel(taps, 2), lambda: fit(taps, order=2)):
        with pytest.raises(ValueError, match=r"^(hankel|fit): the taps of a filter, or their"):
            call()
