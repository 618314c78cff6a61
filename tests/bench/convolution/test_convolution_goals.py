"""Goals read off results."""

import math
from typing import Any

import pytest
from fake_results import result, results

from hyena.bench.convolution import cases
from hyena.bench.convolution.cases import Case
from hyena.bench.convolution.goals import goals
from hyena.bench.goals import Goal, Measured, ratio


def by_number(number: int, where: str = "") -> Goal:
    return next(goal for goal in goals() if goal.number == number and where in goal.where)


def measured(goal: Goal, found: dict[str, Any]) -> Measured:
    value = goal.measure(found)
    assert value is not None
    return value


def test_every_number_is_there() -> None:
    assert sorted({goal.number for goal in goals()}) == list(range(1, 11))


def test_nothing_is_measured_of_no_results() -> None:
    assert not [goal for goal in goals() if goal.measure({}) is not None]


def test_a_ratio_is_of_medians_and_its_range_of_quartiles() -> None:
    times = result(Case("goals", "gated_conv", "forward", "default", 8, 8, ("ours", "public")))
    found = ratio(times["times"], "public", "ours")
    assert found == pytest.approx((8.0, 8 * 0.9 / 1.1, 8 * 1.1 / 0.9, "public"), abs=1e-9)


@pytest.mark.parametrize(
    ("number", "where", "value"),
    [
        (1, "L=8192", 8.0),
        (2, "L=2048", 8.0),
        (3, "L=131072", 8.0),
        (4, "L=65536", 100.0),
        (5, "D=768", 8.0),
        (6, "D=64", 50.0),
        (7, "", 1.0),  # against the faster of both blocks
        (8, "L=1000", 1.0),
        (9, "", 3e-7),
        (10, "… 1048576", 2.0),
        (10, "L=1048576", 2.0),  # GiB
    ],
)
def test_what_is_measured(number: int, where: str, value: float) -> None:
    goal = by_number(number, where)
    assert measured(goal, results(cases.goals())).value == pytest.approx(value)


def test_met_and_missed() -> None:
    faster, error = by_number(1, "L=8192"), by_number(9)
    assert (faster.target, error.target) == (7.0, 4e-7)
    assert faster.met(Measured(7.0))
    assert not faster.met(Measured(6.99))
    assert error.met(Measured(4e-7))
    assert not error.met(Measured(4.1e-7))
    assert not error.met(Measured(float("nan")))


def test_the_slower_of_two_lengths_shows_in_time_per_element() -> None:
    odd = Case(
        "goals", "two_lengths", "forward", "default", 256, 1000, ("L=1000", "L=1024"), beside=1024
    )
    found = {odd.key: result(odd, {"L=1000": 2.0, "L=1024": 1.0})}
    value = measured(by_number(8, "L=1000"), found)
    assert value.value == pytest.approx(2.048)
    assert not by_number(8, "L=1000").met(value)


def test_an_error_that_is_no_number_is_the_worst() -> None:
    found = results(cases.goals())
    next(value for key, value in found.items() if "error" in key)["errors"]["ours"]["z"] = math.nan
    value = measured(by_number(9), found)
    assert math.isnan(value.value)
    assert not by_number(9).met(value)


def test_a_figure_over_lengths_needs_all_of_them() -> None:
    found = results(cases.goals())
    for number, work in ((9, "error"), (10, "two_lengths")):
        some = {key: value for key, value in found.items() if work not in key}
        assert by_number(number).measure(some) is None
