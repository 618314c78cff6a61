"""Fitted modes: filters of known order are found, others are met as far as the tolerance says."""

import itertools
import math
import re
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from comparison import assert_close
from torch import Tensor

from hyena.distillation import Fit, Modes, fit
from hyena.distillation.fit import ladder
from hyena.distillation.refine import refine, solve_weights


def some_modes(filters: int, modes: int, generator: torch.Generator) -> Modes:
    shape = (filters, modes)
    place = (torch.arange(modes) + 0.8 * torch.rand(shape, generator=generator)) / modes
    rate = 0.01 + 0.1 * torch.rand(shape, generator=generator)
    weight = torch.complex(*torch.randn(2, *shape, generator=generator).double())
    return Modes(rate.double(), 0.1 + 2.9 * place.double(), weight)


def by_definition(modes: Modes, length: int) -> Tensor:
    """Tap by tap, with both poles of each pair."""
    pole = torch.exp(torch.complex(-modes.rate, modes.frequency))
    rows = []
    for t in range(length):
        both = modes.weight * pole**t + (modes.weight * pole**t).conj()
        rows.append(both.sum(1).real)
    return torch.stack(rows, dim=1)


def error_by_definition(found: Fit, taps: Tensor) -> Tensor:
    reached = by_definition(found.modes, taps.shape[1] + 1)[:, 1:]
    return (reached - taps).norm(dim=1) / taps.norm(dim=1)


@pytest.mark.parametrize("modes", [1, 2, 4, 8])
@pytest.mark.parametrize("count", [70, 200])
def test_filters_of_known_order_are_found(
    modes: int, count: int, generator: torch.Generator
) -> None:
    true = some_modes(5, modes, generator)
    taps = true.taps(count + 1)[:, 1:]
    found = fit(taps, tolerance=1e-6)
    assert found.order.tolist() == [2 * modes] * 5
    assert float(error_by_definition(found, taps).max()) < 1e-7
    assert_close(by_definition(found.modes, 300), by_definition(true, 300), 1e-6)  # beyond the taps


def test_filters_longer_than_the_samples() -> None:
    generator = torch.Generator().manual_seed(1)
    true = some_modes(2, 3, generator)
    true = true._replace(rate=true.rate / 20)
    taps = true.taps(5001)[:, 1:]
    found = fit(taps, tolerance=1e-5)
    assert found.order.tolist() == [6, 6]
    assert float(error_by_definition(found, taps).max()) < 1e-6


def smooth_filters() -> Tensor:
    """Windowed smooth filters: a bump, a chirp under a window, a power law."""
    t = torch.arange(1, 400, dtype=torch.float64)
    bump = torch.exp(-(((t - 120) / 40) ** 2))
    chirp = torch.exp(-t / 80) * torch.cos(t / 12 + (t / 250) ** 2)
    return torch.stack([bump, chirp, 1 / t])


def test_windowed_smooth_filters_are_met_and_tighter_ones_cost_more() -> None:
    taps = smooth_filters()
    orders = []
    for tolerance in (1e-1, 1e-2, 1e-3):
        found = fit(taps, tolerance=tolerance)
        error = error_by_definition(found, taps)
        assert_close(found.error, error, 1e-6)
        assert float(error.max()) <= tolerance
        assert bool((found.bound <= found.error).all())
        orders.append(found.order)
    assert bool((orders[0] <= orders[1]).all() and (orders[1] <= orders[2]).all())
    assert orders[2].tolist() <= [10, 6, 14]
    assert float(found.modes.rate.min()) > 0


def test_noise_resists_and_that_is_said(generator: torch.Generator) -> None:
    taps = torch.randn(2, 120, generator=generator, dtype=torch.float64)
    found = fit(taps, tolerance=1e-2, largest=8)
    assert float(found.error.min()) > 0.3
    assert float(found.bound.min()) > 0.2
    assert_close(found.error, error_by_definition(found, taps), 1e-6)
    assert found.order.max() <= 8


def test_a_given_order_is_kept_and_more_is_better() -> None:
    taps = smooth_filters()
    four, eight = fit(taps, order=4), fit(taps, order=8)
    assert four.order.tolist() == [4, 4, 4]
    assert four.modes.rate.shape == (3, 2)
    assert bool((eight.error < four.error).all())


def test_refinement_finds_moved_poles_again(generator: torch.Generator) -> None:
    true = some_modes(4, 3, generator)
    taps = true.taps(201)[:, 1:]
    taps = taps / taps.norm(dim=1, keepdim=True)
    rate, frequency = true.rate * 1.3, true.frequency + 0.01
    before = solve_weights(rate, frequency, taps)[1]
    rate, frequency = refine(rate, frequency, taps)
    after = solve_weights(rate, frequency, taps)[1]
    assert float(before.min()) > 0.05
    assert float(after.max()) < 1e-7
    assert_close(frequency, true.frequency, 1e-6)
    assert_close(rate, true.rate, 1e-6)


def test_refined_modes_are_a_minimum(generator: torch.Generator) -> None:
    taps = smooth_filters()[1:2]
    taps = taps / taps.norm()
    found = fit(taps, order=2).modes
    best = float(solve_weights(found.rate, found.frequency, taps)[1])
    for d_rate in (-1e-3, 0.0, 1e-3):
        for d_frequency in (-1e-4, 0.0, 1e-4):
            moved = found.rate * (1 + d_rate), found.frequency + d_frequency
            assert float(solve_weights(*moved, taps)[1]) >= best * (1 - 1e-9)


def test_the_scale_of_a_filter_does_not_matter() -> None:
    taps = smooth_filters()
    small, large = fit(1e-6 * taps, tolerance=1e-2), fit(1e3 * taps, tolerance=1e-2)
    assert small.order.tolist() == large.order.tolist()
    assert_close(1e9 * small.modes.weight.abs(), large.modes.weight.abs(), 1e-4)


def test_a_filter_of_zeros_among_others() -> None:
    taps = smooth_filters()
    taps[1] = 0
    for options in ({"tolerance": 1e-2}, {"order": 4}):
        found = fit(taps, **options)
        assert int(found.order[1]) == 0
        assert float(found.error[1]) == 0
        assert not bool(found.modes.taps(50)[1].any())
        assert bool(found.modes.weight.isfinite().all() and found.singular_values.isfinite().all())


def test_poles_stay_inside_the_unit_circle_and_weights_small(generator: torch.Generator) -> None:
    t = torch.arange(1, 101, dtype=torch.float64)
    taps = torch.stack([1.01**t, (t > 50).double(), torch.randn(100, generator=generator).double()])
    found = fit(taps, order=12)
    assert float(found.modes.rate.min()) > 0
    assert bool((found.error <= 1).all())
    # what float32 makes of them is still the filter
    narrow = Modes(
        *(x.to(torch.complex64 if x.is_complex() else torch.float32) for x in found.modes)
    )
    got = narrow.taps(101)[:, 1:].double()
    gap = (got - found.modes.taps(101)[:, 1:]).norm(dim=1) / taps.norm(dim=1)
    assert bool((gap <= 0.05 * found.error + 1e-5).all())


def test_progress_counts_filters() -> None:
    told = []
    fit(smooth_filters().repeat(12, 1), order=2, progress=lambda n, of: told.append((n, of)))
    assert sorted(told) == told
    assert {of for _, of in told} == {36}
    assert [n for n, _ in told][-1] == 36
    assert len({n for n, _ in told}) > 4  # more often than for each 32 that are fitted together


def test_the_ladder() -> None:
    assert ladder(24) == [2, 4, 6, 8, 10, 12, 14, 16, 20, 24]
    assert ladder(2) == [2]
    orders = ladder(256)
    assert all(order % 2 == 0 for order in orders)
    assert orders[-1] == 256
    assert max(b / a for a, b in itertools.pairwise(orders[3:])) <= 1.25


@pytest.mark.parametrize(
    ("taps", "options", "message"),
    [
        (
            torch.ones(2, 3),
            {"order": 2},
            "fit: expected 4 taps or more beside that of lag 0, got 3",
        ),
        (
            torch.full((2, 30), math.nan),
            {"order": 2},
            "fit: the taps of a filter, or their squares, are not finite; did its training ",
        ),
        (
            torch.ones(2, 30),
            {"order": 16},
            "an order of 16 was asked for, but filters of 31 taps have even orders from 2 to 14; "
            "choose one of these",
        ),
        (torch.ones(2, 30), {"order": 3}, "an order of 3 was asked for"),
        (torch.ones(2, 30), {}, "fit: expected a tolerance or an order, and not both"),
    ],
)
def test_what_cannot_be(taps: Tensor, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        fit(taps.double(), **options)


@pytest.mark.parametrize("tolerance", [2**64, Fraction(10), np.float32(10)])
def test_a_tolerance_of_another_kind_is_its_float(tolerance: Any) -> None:
    taps = torch.randn(2, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found, expected = fit(taps, tolerance=tolerance), fit(taps, tolerance=10.0)
    for one, other in zip(found.modes, expected.modes, strict=True):
        assert torch.equal(one, other)
    assert fit(taps, order=np.int8(2)).order.tolist() == [2, 2]
