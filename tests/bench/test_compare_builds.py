"""`benchmarks/compare_builds.py`: what it compares, in which order, and what it says of it."""

import json
import math
import random
import sys
from itertools import pairwise
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import build_rows
import compare_builds

from hyena.bench.convolution import cases

SMALL = {"width": 8, "batch": 2, "bf16": False}
ROWS = {
    "inference": {"work": "convolution", "training": False, "length": 33, **SMALL},
    "gradients": {"work": "convolution", "training": True, "length": 33, **SMALL},
    "operator": {"work": "operator", "training": False, "length": 33, **SMALL},
    "bf16": {"work": "operator", "training": True, "length": 33, **SMALL, "bf16": True},
    "exact": {
        **{"work": "mixer", "recurrent": None, **SMALL},
        **{"prefill": 3, "tokens": 70, "max_length": 73},
    },
    "recurrent": {
        **{"work": "mixer", "recurrent": 4, **SMALL},
        **{"prefill": 3, "tokens": 5, "max_length": 8},
    },
    "model": {
        **{"work": "model", "recurrent": None, "preset": None, "layers": 1, **SMALL},
        **{"prefill": 3, "tokens": 5},
    },
    "recurrent model, bf16": {
        **{"work": "model", "recurrent": 4, "preset": None, "layers": 1, **SMALL},
        **{"prefill": 3, "tokens": 5, "bf16": True},
    },
}


def test_all_times_of_ours_in_the_goals_are_compared_or_named():
    groups, excepted = compare_builds.rows()
    for cell in cases.goals():
        if cell.work == "error" or cell.allocator not in groups:
            continue
        work = cell.work.replace("two_lengths", "gated_conv")
        for length in {cell.length, cell.beside or cell.length}:
            name = f"{work} {cell.direction}, D={cell.width}, L={length}"
            assert f"{name}, {cell.allocator} allocator" in groups[cell.allocator]
    assert not [why for name, why in excepted.items() if "allocator" in name and why != "no glibc"]


def test_all_kinds_of_generation_are_compared():
    names = list(compare_builds.rows()[0]["generation"])
    for part in ("mixer exact", "mixer recurrent", "model exact", "bf16", "125M"):
        assert any(part in name for name in names)
    assert "mixer exact, D=256, B=1, 65536 tokens after 1" in names


@pytest.mark.parametrize("name", ROWS)
def test_a_build_times_every_kind_of_row_and_computes_the_same_again(name):
    first, again = (build_rows.measure(ROWS[name], 1e-3) for _ in range(2))
    assert first["seconds"] > 0
    assert first["samples"] >= 2
    assert first["numbers"] == again["numbers"]
    assert any(first["numbers"])


def test_a_row_that_a_build_cannot_run_is_one_line():
    found = build_rows.measure({**ROWS["inference"], "width": -1}, 1e-3)
    assert list(found) == ["failed"]
    assert "\n" not in found["failed"]


def test_a_process_of_a_build_answers():
    rows = {"inference": ROWS["inference"]}
    found = compare_builds.measure(sys.executable, "default", rows, {"seconds": 1e-3, "threads": 1})
    assert found["build"]["threads"] == 1
    assert set(found["rows"]["inference"]) == {"seconds", "samples", "numbers"}


def test_builds_take_turns_and_each_begins_as_often():
    order = compare_builds.turns(["only"], ["old", "new"], 4)
    assert [build for _, _, build in order] == ["old", "new", "new", "old"] * 2
    assert [pair for pair, _, _ in order] == [0, 0, 1, 1, 2, 2, 3, 3]
    two = compare_builds.turns(["one", "two"], ["old", "new"], 1)
    assert [turn[1:] for turn in two] == [
        *(("one", "old"), ("one", "new")),
        *(("two", "new"), ("two", "old")),
    ]


def test_the_time_left_is_reckoned_by_group_once_that_was_measured():
    took = [("short", 2.0), ("short", 4.0)]
    assert compare_builds.seconds_left(took, ["short", "long"]) == 4.0 + 3.0
    assert compare_builds.seconds_left([*took, ("long", 9.0)], ["short", "long"]) == 13.0
    assert compare_builds.seconds_left(took, []) == 0


def test_a_long_sample_is_measured_once_and_a_short_one_within_the_budget(monkeypatch):
    calls = []

    def work(row):
        def sample():
            calls.append(row["takes"])
            clock[0] += row["takes"]
            return 4

        return sample, [1.0]

    clock = [0.0]
    monkeypatch.setattr(build_rows.time, "perf_counter", lambda: clock[0])
    monkeypatch.setitem(build_rows._WORK, "mixer", work)
    for takes, samples in ((8.0, 1), (0.3, 2), (0.125, 8)):
        found = build_rows.measure({"work": "mixer", "takes": takes}, 1.0 if takes < 0.3 else 0.2)
        assert found["samples"] == samples
        assert found["seconds"] == pytest.approx(takes / 4)


def test_rows_that_have_a_state_in_common_follow_each_other():
    rows = list(compare_builds.rows()[0]["generation"].values())
    common = [compare_builds._in_common(row) for row in rows]
    assert sum(a != b for a, b in pairwise(common)) == len(set(common)) - 1
    assert len(set(common)) < len(common) / 1.4


def test_the_interval_has_the_truth_in_it_19_times_of_20():
    draw = random.Random(0)
    inside = 0
    for _ in range(4000):
        low, high = compare_builds.interval([math.exp(draw.gauss(0.1, 0.2)) for _ in range(7)])
        inside += low <= math.exp(0.1) <= high
    assert inside / 4000 == pytest.approx(0.95, abs=0.01)


def timed(seconds, numbers=(1.0, -2.0)):
    return {"seconds": seconds, "samples": 2, "numbers": list(numbers)}


@pytest.mark.parametrize(
    ("new", "verdict"),
    [
        ([timed(1.10), timed(1.12), timed(1.11)], "**slower**"),
        ([timed(1.04), timed(1.04), timed(1.041)], "|  |"),  # slower by less than the limit
        ([timed(0.5), timed(1.9), timed(1.2)], "|  |"),  # nobody knows
        ([timed(0.5, (1.0, -2.1))] * 3, "**other numbers**"),
        ([timed(0.5, (1.0,))] * 3, "**other numbers**"),
        ([timed(0.5, (1.0, math.nan))] * 3, "**other numbers**"),
        ([timed(0.5), {"failed": "ValueError: no such thing"}, timed(0.5)], "ValueError: no such"),
    ],
)
def test_slower_other_or_failed_rows_are_named_and_others_are_not(new, verdict):
    found = compare_builds.compare([timed(1.0)] * 3, new)
    text, well = compare_builds.report({"a row": found}, {"a row": {"bf16": False}}, {})
    line = next(line for line in text.splitlines() if "a row" in line)
    assert verdict in line
    assert well == (verdict == "|  |")


def test_results_are_written_with_every_process_and_what_is_left_out(tmp_path, monkeypatch):
    def measure(python, group, rows, options):
        seconds = {"one": 1.0, "two": 2.0}[python]
        return {"build": {"folder": python}, "rows": {name: timed(seconds) for name in rows}}

    monkeypatch.setattr(compare_builds, "measure", measure)
    out = tmp_path / "out"
    command = ["--old", "one", "--new", "two", "--only", "L=8192", "--out", str(out)]
    assert compare_builds.main([*command, "--pairs", "3"]) == 1
    document = json.loads((out / "builds.json").read_text())
    row = document["rows"]["gated_conv forward, D=256, L=8192, default allocator"]
    assert row["ratio"] == row["low"] == row["high"] == 2.0
    assert row["seconds"] == {"old": [1.0] * 3, "new": [2.0] * 3}
    table = (out / "builds.md").read_text()
    assert "not compared, a position that is reached through what is private: " in table
    assert "t=1048576" in table


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--old", "one", "--new", "one"], "--old and --new are the same build, one"),
        (["--old", "one", "--pairs", "1"], "--pairs: expected 2 to 30, got 1"),
        (["--old", "one", "--only", "nothing"], "--only: no row has 'nothing' in its name"),
    ],
)
def test_what_cannot_be_compared_is_refused(given, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        compare_builds,
        "measure",
        lambda python, group, rows, options: {
            "build": {"folder": python},
            "rows": {name: timed(1.0) for name in rows},
        },
    )
    with pytest.raises(SystemExit):
        compare_builds.main([*given, "--out", str(tmp_path)])
    assert message in capsys.readouterr().err
