"""Goals of whole models, and the report that shows them."""

import json

import pytest
from fake_models import GIB, result

from hyena.bench.model import cases
from hyena.bench.model.goals import goals
from hyena.bench.model.report import report

SUITES: tuple[cases.Suite, ...] = ("memory", "train")
SECONDS = {"attention": 30.0, "float32": 3.0, "continued": 1.2, "prompt": 1.1, "ours_today": 2.0}


def results(suite: cases.Suite) -> dict[str, object]:
    its = {case.key: result(case, **SECONDS) for case in cases.chosen(suite, today=True)}
    return json.loads(json.dumps(its))


@pytest.mark.parametrize("suite", SUITES)
def test_every_goal_is_read_off_the_results_of_a_suite(suite: cases.Suite) -> None:
    for goal in goals(suite):
        assert goal.measure(results(suite)) is not None, goal.work
        assert goal.measure({}) is None
        assert goal.record({})["met"] is None


def test_figures_and_verdicts() -> None:
    memory, train = ([g.record(results(suite)) for g in goals(suite)] for suite in SUITES)
    by_target = {(goal["number"], goal["target"]): goal for goal in memory}
    assert by_target[1, 0.9]["measured"]["value"] == 2.0
    assert not by_target[1, 0.9]["met"]
    assert by_target[1, 4.0]["met"]
    assert by_target[3, 1.05]["measured"]["value"] == 0.5
    assert by_target[4, 2.3]["measured"]["value"] == 1.0
    assert by_target[5, 1.3]["measured"]["value"] == 1.0
    assert by_target[6, 1.3]["measured"]["value"] == pytest.approx(1.2)
    assert by_target[7, 1.2]["measured"]["value"] == pytest.approx(1.1)
    assert {goal["measured"]["value"] for goal in memory if goal["number"] == 8} == {2.0}
    assert [goal["measured"]["value"] for goal in train] == [2.0, 0.5, 30.0, 30.0, 30.0, 3.0]
    assert [goal["met"] for goal in train] == [False, True, True, True, True, True]


def test_the_memory_of_a_layout_is_what_it_adds() -> None:
    found = results("memory")
    found["hybrid-by-layout"]["added"]["padded"] = 3 * GIB  # type: ignore[index]
    first, second = [goal for goal in goals("memory") if goal.number == 5]
    assert first.measure(found).value == 3.0  # type: ignore[arg-type, union-attr]
    assert second.measure(found).value == 1.0  # type: ignore[arg-type, union-attr]
    found["hybrid-by-layout"]["added"]["padded"] = None  # type: ignore[index]
    assert first.measure(found) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("suite", SUITES)
def test_the_report_has_goals_figures_and_what_is_left_out(suite: cases.Suite) -> None:
    found = results(suite)
    key = next(iter(found))
    found[key]["skipped"] = {"ours": "not enough memory"}  # type: ignore[index]
    builds = {"this": {"hyena": "0.1", "commit": "abc"}, "older": {"hyena": "0.0"}}
    found[key]["builds"] = builds  # type: ignore[index]
    text = report(suite, found, {"threads": 2})  # type: ignore[arg-type]
    assert "- threads: 2\n- this build: hyena 0.1, commit abc\n- older build: hyena 0.0\n" in text
    assert "## Goals" in text
    assert f"- ours, {key}: not enough memory" in text
    for case in cases.chosen(suite, today=True):
        for name in case.contenders:
            assert f"| {case.name} | {name.replace('_today', ', today')} |" in text


def test_a_small_run_has_no_goals() -> None:
    small = cases.chosen("train", small=True)
    text = report("train", {case.key: result(case) for case in small}, {})
    assert "## Goals" not in text
    assert "| small 125M at 2048 | bf16 | 32 |" in text
