"""`benchmarks/distributed.py`: what it measures, compares and says."""

import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import distributed as bench


def test_the_step_is_of_a_million_tokens_on_four_processes_and_one() -> None:
    step, *others = bench.cases()
    assert (step.length, step.processes) == (1_000_002, (1, 4))
    assert {(case.model["order"], case.processes) for case in others} == {(2, (2, 4)), (3, (2, 4))}


def test_a_step_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--quick", "--only", "step", "--out", str(tmp_path)]
    assert bench.main(words) == 0
    text = (tmp_path / "table.md").read_text()
    assert text in capsys.readouterr().out
    (row,) = json.loads((tmp_path / "results.json").read_text())["rows"].values()
    assert set(row["times"]) == set(row["peak"]) == {"1", "2"}
    assert row["sent"] == {}
    assert 0 < row["apart"]["gradient"] < 1e-4
    assert row["apart"]["loss"] < 1e-5
    assert "| 1 | 2 layers × 16, a step, peak of a process | L=302, 2 processes against 1 |" in text
    assert bench.main(words) == 0
    assert "1 of 1 case is there already" in capsys.readouterr().out


def test_bytes_are_counted(tmp_path: Path) -> None:
    assert bench.main(["--quick", "--only", "order 3", "--out", str(tmp_path)]) == 0
    (row,) = json.loads((tmp_path / "results.json").read_text())["rows"].values()
    needed = 2 * 2 * 16 * 4 / 2  # there and back, two convolutions
    assert needed <= row["sent"]["2"] <= bench.EXCESS * needed
    excess = bench.excess(bench.cases(tiny=True)[2], 2)({"order-3": row})
    assert excess is not None
    assert excess.value == pytest.approx(row["sent"]["2"] / needed)


def test_the_gradient_that_is_furthest_off_is_named() -> None:
    one = {"a": torch.tensor([3.0, 4.0]), "b": torch.tensor([1.0]), "c": None}
    other = {"a": torch.tensor([3.0, 4.5]), "b": torch.tensor([1.01]), "c": None}
    found = bench.furthest(other, one)
    assert found == {"gradient": pytest.approx(0.1), "name": "a"}


def test_what_a_process_says_is_why_there_is_nothing() -> None:
    case = bench.Case("broken", 8, (2,), model={"width": 0, "layers": 1, "order": 2})
    found = bench.measure(case, threads=1)
    assert found["failed"].startswith("2 processes: process 0: ValueError: ")
    assert "width" in found["failed"]
    assert f"- broken: {found['failed']}" in bench.report({"broken": found}, {}, [])


def test_mistakes_are_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (["--only", "pdf"], "--only: no row has 'pdf' in its name; they are step, order 2, order"),
        (["--threads", "0"], "--threads: expected at least 1, got 0"),
    ):
        with pytest.raises(SystemExit):
            bench.main(words)
        assert message in capsys.readouterr().err
