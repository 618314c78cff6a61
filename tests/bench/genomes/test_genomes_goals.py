"""Goals of genomics, and the report that shows them."""

import json
from typing import Any

import pytest
from fake_genomes import GIB, results

from hyena.bench.generation.cases import modal
from hyena.bench.genomes.cases import cases, quick
from hyena.bench.genomes.goals import goals
from hyena.bench.genomes.report import report
from hyena.bench.goals import Goal, Measured
from hyena.bench.report import goal_rows


@pytest.fixture
def found() -> dict[str, Any]:
    return json.loads(json.dumps(results(cases())))


def goal(number: int, work: str = "") -> Goal:
    return next(x for x in goals() if x.number == number and work in x.work)


def measured(wanted: Goal, found: dict[str, Any]) -> Measured:
    value = wanted.measure(found)
    assert value is not None
    return value


def test_every_goal_is_read_off_the_results_of_the_suite(found: dict[str, Any]) -> None:
    assert sorted({x.number for x in goals()}) == list(range(1, 11))
    assert [x.work for x in goals() if x.measure(found) is None] == []
    assert [x.work for x in goals() if x.measure({}) is not None] == []


@pytest.mark.parametrize(
    ("number", "work", "value", "met"),
    [
        (1, "", 5.0, True),
        (2, "", 4.0 / 0.8, True),
        (3, "", 0.2, True),
        (4, "hyena-se", 3.5, True),
        (4, "hyena-mr", 3.5, True),
        (4, "hyena-li", 5.0, True),
        (5, "hyena-se", 3.5, True),
        (6, "state", 3e-7, True),
        (6, "time", 1.0, True),
        (7, "bases", 48.0, False),
        (7, "peak", 2048.0, False),
        (8, "", 2.0, True),
        (9, "", 2.0, True),
        (10, "", 2.0, True),
    ],
)
def test_what_is_measured(
    number: int, work: str, value: float, met: bool, found: dict[str, Any]
) -> None:
    wanted = goal(number, work)
    assert measured(wanted, found).value == pytest.approx(value)
    assert wanted.met(measured(wanted, found)) is met


def test_bfloat16_has_to_beat_the_faster_of_both(found: dict[str, Any]) -> None:
    assert measured(goal(2), found).note == "public_bf16"
    found["score-of-131072"]["times"]["public_bf16"]["median"] = 9.0
    assert measured(goal(2), found)[::3] == pytest.approx((5.0 / 0.8, "public"), abs=1e-9)
    del found["score-of-131072"]["times"]["public_bf16"]  # it was left out
    assert goal(2).measure(found) is None
    assert goal(1).measure(found) is not None


def test_the_worst_state_and_the_slowest_position_count(found: dict[str, Any]) -> None:
    its = found[modal().key]
    its["times"]["t=65536"]["median"] = 1.1
    assert measured(goal(6, "time"), found)[::3] == pytest.approx(
        (1.1, "t=65536 to t=8192"), abs=1e-9
    )
    assert not goal(6, "time").met(measured(goal(6, "time"), found))
    its["state_errors"]["t=8192"] = float("nan")
    assert measured(goal(6, "state"), found).note == "t=8192"
    assert not goal(6, "state").met(measured(goal(6, "state"), found))
    del its["state_errors"]["t=8192"]
    assert goal(6, "state").measure(found) is None


def test_the_memory_of_a_score_is_that_of_the_whole_process(found: dict[str, Any]) -> None:
    found["score-of-131072"]["peak"]["ours"] = 4 * GIB
    assert measured(goal(3), found).value == pytest.approx(0.4)


def test_rates_have_their_unit(found: dict[str, Any]) -> None:
    rows = {(row[0], row[1]): row for row in goal_rows(goals(), found, {})}
    row = rows["7", "hyena prepare of packed FASTA, bases a second"]
    assert row[2:] == ["48 Mb", "≥ 50 MB/s", "48 MB/s", "43.6–53.3", "**missed**"]
    assert rows["3", "HyenaDNA medium, a score, float32, peak against the public recipe's"][3:] == [
        "≤ 0.25",
        "0.2",
        "",
        "met",
    ]


def test_the_report_has_goals_every_case_and_what_is_left_out(found: dict[str, Any]) -> None:
    key = "score-of-131072"
    found[key]["skipped"] = {"public_bf16": "its numbers differ"}
    del found[key]["times"]["public_bf16"]
    text = report(found, {"threads": 2})
    assert text.startswith("# Genomics\n\n- threads: 2\n- this build: hyena 0.1\n")
    assert "## Goals" in text
    assert "- public recipe, bf16 autocast, score-of-131072: its numbers differ\n" in text
    assert "| score of 131072 | ours | 131,072 | " in text
    assert "| nats a base | off by |" in text
    assert "| -1.250000 | 2.5e-01 |" in text
    for mixer in ("hyena-se", "hyena-mr", "hyena-li"):
        assert f"## {mixer} between its projections, forward + backward, tuned" in text
    assert "depthwise conv1d / ours" in text
    for line in text.splitlines():
        assert not line.startswith("|") or line.endswith("|")


def test_a_small_run_has_no_goals() -> None:
    assert "## Goals" not in report(results(quick()), {})
