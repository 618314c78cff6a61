"""Goals of generation read off results."""

from typing import Any

import pytest
from fake_generation import READS, result, results

from hyena.bench.generation.cases import Case, cases, key
from hyena.bench.generation.goals import goals
from hyena.bench.goals import Goal, Measured


def goal(number: int, where: str = "", work: str = "") -> Goal:
    return next(x for x in goals() if x.number == number and where in x.where and work in x.work)


def measured(goal: Goal, found: dict[str, Any]) -> Measured:
    value = goal.measure(found)
    assert value is not None
    return value


def test_the_rows_measure_what_every_goal_needs() -> None:
    found = results(cases())
    assert [x for x in goals() if x.measure(found) is None] == []
    assert [x for x in goals() if x.measure({}) is not None] == []


@pytest.mark.parametrize(
    ("number", "where", "work", "value", "met"),
    [
        (1, "batch 1, after a prefill", "", 30.0, True),
        (1, "batch 8, token by token", "", 30.0, True),
        (2, "batch 8, after a prefill", "", 30.0, True),
        (3, "16384", "", 8.0, False),
        (4, "2048", "", 200.0, True),
        (5, "65536", "", 2.0, True),
        (6, "", "", 2**20 / 2**27, True),
        (7, "", "time", 1.0, True),
        (7, "", "bytes", 1.0, True),
        (8, "token by token", "", 2.0, True),
        (8, "whole model", "", 2.0, True),
        (9, "", "", 0.8, True),
        (10, "", "", 2.0, True),
    ],
)
def test_what_is_measured(number: int, where: str, work: str, value: float, met: bool) -> None:
    wanted = goal(number, where, work)
    found = measured(wanted, results(cases()))
    assert found.value == pytest.approx(value)
    assert wanted.met(found) is met


def test_growth_is_of_the_whole_time_of_the_worst_doubling() -> None:
    row = next(row for row in cases() if row.kind == "growth")
    found = {row.key: result(row, {"L=32768": 1.0, "L=65536": 1.4})}
    assert measured(goal(5), found)[::3] == pytest.approx((2.8, "L=32768 to 65536"), abs=1e-9)
    del found[row.key]["times"]["L=8192"]
    assert goal(5).measure(found) is None


def test_positions_are_the_slowest_against_the_quickest() -> None:
    row = next(row for row in cases() if row.kind == "positions")
    found = {row.key: result(row, {"t=1024": 1.0, "t=65536": 0.8, "t=1048576": 0.9})}
    assert measured(goal(7, work="time"), found).value == pytest.approx(1.25)
    assert measured(goal(7, work="time"), found).note == "t=1024 to t=65536"
    found[row.key]["held"]["t=1048576"] = 2**20
    assert not goal(7, work="bytes").met(measured(goal(7, work="bytes"), found))


def test_the_limit_is_that_of_the_faster_read() -> None:
    row = next(row for row in cases() if row.kind == "weights")
    found = {row.key: result(row, {"hyena": 1.0, "read_sum": 0.9, "read_mv": 0.7})}
    assert measured(goal(9), found)[::3] == pytest.approx((0.7, "read_mv"), abs=1e-9)
    found[row.key]["times"]["read_kernel"]["median"] = 0.0006
    assert measured(goal(9), found)[::3] == pytest.approx((0.6, "read_kernel"), abs=1e-9)
    for name in READS:
        assert goal(9).measure(found) is not None
        del found[row.key]["times"][name]  # as in a record that is older
    assert goal(9).measure(found) is None


def test_a_row_that_failed_measures_nothing() -> None:
    row = Case("planned", ("hyena",), 1, 65536)
    assert row.key == key("planned", 65536)
    assert goal(1).measure({row.key: {"row": {}, "skipped": {}, "failed": "why"}}) is None
