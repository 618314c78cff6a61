"""The report and the drawings of results that are easy to reckon with."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_results import result, results, timing

from hyena.bench.convolution import cases
from hyena.bench.convolution.cases import Case
from hyena.bench.convolution.goals import goals
from hyena.bench.convolution.report import contender_rows, draw, limit_rows, report, time_rows
from hyena.bench.report import goal_rows
from hyena.files.markdown import table

SETTING = {"processor": "a processor", "threads": 2}
LIMITS = {"copy": 1e9, "triad": 2e9, "matmul": 3e9, "matmul_bf16": 4e9, "multiply_add": 5e9}


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return results([*cases.goals(), *cases.sweep()])


def test_the_report_has_every_row_and_every_mode(found: dict[str, Any]) -> None:
    text = report(found, SETTING, LIMITS)
    assert "- processor: a processor\n- threads: 2" in text
    for mode, meaning in cases.MODES.items():
        assert f"- mode ({mode}): {meaning}" in text
    assert "GLIBC_TUNABLES=glibc.malloc.hugetlb=1" in text
    for heading in (
        "## Goals",
        "## How near ours comes to the machine",
        "## Gated convolution, forward, default allocator: ms (goals)",
        "## Gated convolution, forward + backward, tuned allocator: ms (goals)",
        "## Gated convolution, forward, default allocator: peak memory in MiB (sweep)",
        "## Whole operator under bfloat16 autocast, forward, default allocator: ms (sweep)",
        "## Ours at two lengths, forward + backward, tuned allocator (goals)",
        "## Errors against float64, forward + backward, default allocator (goals)",
    ):
        assert heading in text.splitlines()
    for line in text.splitlines():
        assert not line.startswith("|") or line.endswith("|")


def test_of_another_device_the_report_names_it_and_has_the_goals_of_the_paper() -> None:
    text = report(results(cases.on_device("cuda")), {"device": "cuda, a GPU"}, {})
    assert "- device: cuda, a GPU\n- mode (a)" in text
    assert "GLIBC" not in text
    assert "mode (c)" not in text
    goal = "against the faster bf16 attention block | D=768, L=65536 | ≥ 100×"
    assert goal in re.sub(" +", " ", text)


def test_a_goal_is_met_missed_or_not_measured(found: dict[str, Any]) -> None:
    rows = goal_rows(goals(), found, cases.CONTENDERS)
    assert len(rows) == 1 + len(goals())
    assert rows[1] == [
        "1",
        "gated conv forward, both in mode (a), spectrum cached, against the public recipe",
        "D=256, L=2048",
        "≥ 5×",
        "8×",
        "6.55–9.78",
        "met",
    ]
    by_where = {(row[0], row[2]): row for row in rows}
    assert by_where["1", "D=256, L=65536"][-1] == "**missed**"
    assert by_where["7", "D=768, L=8192"][4] == "1× (attention block, bf16 autocast)"
    assert by_where["9", "L=512 … 131072"][3:] == ["≤ 4.0e-07", "3.0e-07 (k, L=512)", "", "met"]
    empty = goal_rows(goals(), {}, {})
    assert {row[4] for row in empty[1:]} == {"not measured"}


def test_each_length_beside_the_machines_limits() -> None:
    cell = Case("goals", "gated_conv", "forward", "tuned", 2, 8, ("ours",))
    found = {cell.key: result(cell, {"ours": 1e-6})}
    # 796 operations and 384 bytes in a microsecond.
    assert limit_rows(found, LIMITS)[1:] == [["2", "8", "0.001", "0.796", "16%", "0.384", "19%"]]
    without = {name: rate for name, rate in LIMITS.items() if name != "multiply_add"}
    assert limit_rows(found, without)[1][4] == ""
    assert len(limit_rows(found, {})) == 1


def test_times_with_quartiles_modes_and_what_was_left_out() -> None:
    cell = Case("goals", "operator", "forward", "default", 2, 8, ("ours_out", "public", "block"))
    first = result(cell, {"ours_out": 0.001, "public": 0.002, "block": 0.5})
    first["times"]["block"] = timing(0.5, samples=1)
    second = result(replace(cell, length=16), {"ours_out": 0.004, "public": 0.002})
    second["skipped"] = {"block": "too slow"}
    assert time_rows([first, second]) == [
        [
            "D",
            "L",
            "ours, own workspaces (c)",
            "public recipe (a)",
            "attention block (a)",
            "public recipe / ours",
            "attention block / ours",
        ],
        ["2", "8", "1 (0.9–1.1)", "2 (1.8–2.2)", "500 (once)", "2×", "500×"],
        ["2", "16", "4 (3.6–4.4)", "2 (1.8–2.2)", "left out", "0.5×", ""],  # a length where we lose
    ]


def test_what_has_no_rivals_in_time_has_a_line_for_each_contender() -> None:
    kind = ("goals", "two_lengths", "training", "tuned", 2, 8)
    both = Case(*kind, ("L=8", "L=16"), beside=16, memory=("L=16",))  # type: ignore[arg-type]
    assert contender_rows([result(both)]) == [
        ["D", "L", "contender", "ms", "peak memory, MiB", "y"],
        ["2", "8, 16", "L=8", "8 (7.2–8.8)", "", "1.0e-07"],
        ["2", "8, 16", "L=16", "16 (14.4–17.6)", "1024 / 2048", "1.0e-07"],
    ]
    error = Case("goals", "error", "training", "default", 2, 8, ("ours",))
    assert contender_rows([result(error)]) == [
        ["D", "L", "contender", "y", "z", "k", "skip"],
        ["2", "8", "ours", "1.0e-07", "2.0e-07", "3.0e-07", "1.0e-07"],
    ]


def test_what_failed_and_what_is_unknown_is_told() -> None:
    cell = Case("goals", "gated_conv", "training", "tuned", 2, 8, ("ours",), memory=("ours",))
    failed = {"cell": cell.__dict__, "modes": {"ours": "b"}, "skipped": {}, "failed": "ours: wrong"}
    text = report({cell.key: failed}, SETTING, {})
    assert f"## Not measured\n\n- {cell.key}: ours: wrong\n" in text
    unknown = {**result(cell), "memory": {"ours": {"why_not": "no /proc"}}}
    assert "| 2 | 8 | no /proc |" in report({cell.key: unknown}, SETTING, {})


def test_a_table_is_markdown() -> None:
    assert table([["a", "b"], ["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_times_and_memory_are_drawn_against_the_length(
    found: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {
        key: value
        for key, value in found.items()
        if value["cell"]["length"] in (1024, 4096) and value["cell"]["width"] == 256
    }
    with monkeypatch.context() as patched:
        drawing = "hyena.bench.drawings.draw_lengths"
        patched.setattr(drawing, lambda panels, path, ylabel: path)
        files = draw(small, tmp_path)
    assert sorted(file.name for file in files) == [
        "memory_gated_conv_forward.png",
        "memory_gated_conv_training.png",
        "time_gated_conv_forward.png",
        "time_gated_conv_training.png",
        "time_operator_bf16_forward.png",
        "time_operator_bf16_training.png",
        "time_operator_forward.png",
        "time_operator_training.png",
    ]
    few = {key: value for key, value in small.items() if value["cell"]["work"] == "operator_bf16"}
    for file in draw(few, tmp_path):
        assert file.read_bytes().startswith(b"\x89PNG")


def test_one_length_is_no_drawing(tmp_path: Path) -> None:
    cell = Case("goals", "gated_conv", "forward", "default", 2, 8, ("ours",))
    assert draw({cell.key: result(cell)}, tmp_path) == []
