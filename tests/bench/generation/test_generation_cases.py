"""The rows of generation."""

import pytest

from hyena.bench.generation.cases import (
    CONTENDERS,
    DOUBLING,
    POSITIONS,
    Case,
    cases,
    key,
    quick,
)

SUITES = {"usual": cases(), "large": cases(large=True), "quick": quick()}


@pytest.mark.parametrize("suite", SUITES)
def test_rows_have_names_of_their_own_and_known_contenders(suite: str) -> None:
    found = SUITES[suite]
    assert len({row.key for row in found}) == len(found)
    for row in found:
        assert row.contenders
        if row.kind not in ("growth", "positions"):
            assert set(row.contenders) <= set(CONTENDERS)


def test_each_kind_is_in_the_quick_cases() -> None:
    assert {row.kind for row in quick()} == {row.kind for row in cases()}


def test_the_large_rows_are_more_of_the_preset() -> None:
    more = [row for row in cases(large=True) if row not in cases()]
    assert {row.preset for row in more} == {"125M"}
    assert max(row.context for row in more if row.batch == 1) == 65536
    assert max(row.context for row in more if row.batch == 8) == 16384


def test_sizes_that_the_goals_speak_of() -> None:
    assert (DOUBLING[0], DOUBLING[-1]) == (4096, 65536)
    assert POSITIONS == (1024, 65536, 1048576)
    assert key("model", 8192, 8) == Case("model", (), 8, 8192, layers=6).key
    assert key("weights", 9, preset="125M") == "weights-125M-B1-P9"
