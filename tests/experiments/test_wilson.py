"""The interval of a share."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyena.experiments.measure import Z, wilson


@given(count=st.integers(1, 2000), data=st.data())
def test_its_ends_are_where_the_normal_test_says_no(count: int, data: st.DataObject) -> None:
    share = data.draw(st.integers(0, count)) / count
    low, high = wilson(share, count)
    assert 0 <= low <= share <= high <= 1
    for end in (low, high):  # (share − p)² = z² p (1 − p) / n, the equation behind the formula
        assert math.isclose((share - end) ** 2, Z**2 * end * (1 - end) / count, abs_tol=1e-12)


def test_none_and_all_are_in_their_intervals() -> None:
    for count in range(1, 2001):
        assert wilson(0.0, count)[0] == 0
        assert wilson(1.0, count)[1] == 1


def test_500_of_500_leave_less_than_a_percent() -> None:
    low, high = wilson(1.0, 500)
    assert high == 1
    assert low == pytest.approx(0.99238, abs=1e-5)


def test_no_trials_have_no_interval() -> None:
    with pytest.raises(ValueError, match="there are 0 trials"):
        wilson(0.5, 0)
