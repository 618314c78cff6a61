import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyena.training import ScheduleConfig, learning_rate

PAPER = {"peak": 6e-4, "start": 1e-6, "floor": 6e-5, "warmup": 100, "steps": 10_100}


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 1e-6),
        (50, (1e-6 + 6e-4) / 2),
        (100, 6e-4),
        (100 + 2500, 6e-5 + (6e-4 - 6e-5) * (1 + math.sqrt(0.5)) / 2),
        (100 + 5000, (6e-4 + 6e-5) / 2),
        (10_100, 6e-5),
        (20_000, 6e-5),
    ],
)
def test_values(step: int, expected: float) -> None:
    assert learning_rate(step, **PAPER) == pytest.approx(expected, rel=1e-12)


@given(warmup=st.integers(0, 40), rest=st.integers(0, 200))
def test_rises_then_falls_within_its_bounds(warmup: int, rest: int) -> None:
    steps = warmup + rest
    rates = [
        learning_rate(s, peak=1.0, start=0.01, floor=0.1, warmup=warmup, steps=steps)
        for s in range(steps + 3)
    ]
    assert all(a < b for a, b in pairwise(rates[:warmup]))
    assert all(a >= b for a, b in pairwise(rates[warmup:]))
    assert all(0.01 <= rate <= 1.0 for rate in rates)
    assert rates[-1] == 0.1
    if rest:
        assert rates[warmup] == 1.0


def test_no_warm_up_starts_at_the_peak() -> None:
    assert learning_rate(0, peak=1.0, start=0.0, floor=0.0, warmup=0, steps=10) == 1.0


def test_defaults_follow_the_run() -> None:
    schedule = ScheduleConfig()
    assert schedule.warmup(10_000) == 100
    assert schedule.floor(6e-4) == pytest.approx(6e-5)
    assert ScheduleConfig(warmup_steps=7, min_lr=1e-5).warmup(10_000) == 7
    assert ScheduleConfig(warmup_steps=7, min_lr=1e-5).floor(6e-4) == 1e-5


def test_the_floor_may_be_reached_at_another_step_than_the_last() -> None:
    assert ScheduleConfig().end(10_000) == 10_000
    assert ScheduleConfig(steps=500).end(10_000) == 500
    assert ScheduleConfig(steps=500).warmup(10_000) == 5
