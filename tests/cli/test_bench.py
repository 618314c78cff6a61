"""`hyena bench`, with processes that really measure, and what it asks them for."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from hyena.bench.convolution import cases
from hyena.cli import main

Output = pytest.CaptureFixture[str]


def test_the_quick_suite_measures_reports_and_goes_on(tmp_path: Path, capfd: Output) -> None:
    out = tmp_path / "results"
    words = ["bench", "quick", "--lengths", "[16]", "--threads", "1", "--out", str(out)]
    assert main(words) == 0
    printed = capfd.readouterr().out
    assert printed.startswith("ours: ")
    assert "gated_conv forward, D=8, L=16, default allocator: ours " in printed
    assert printed.endswith(f"{out}\n")
    document = json.loads((out / "results.json").read_text())
    cells = cases.quick(lengths=[16])
    assert set(document["cells"]) == {cell.key for cell in cells}
    assert document["setting"]["threads"] == 1
    assert document["setting"]["device"] == "cpu"
    assert document["limits"]["triad"] > 0
    assert {goal["number"] for goal in document["goals"]} == set(range(1, 11))
    text = (out / "table.md").read_text()
    assert "## Gated convolution, forward, tuned allocator: ms (quick)" in text
    assert "## Goals" not in text

    assert main(words) == 0
    _, *lines = capfd.readouterr().out.splitlines()
    assert lines == [f"{len(cells)} of {len(cells)} cases are there already", str(out)]
    assert main([word if word != "1" else "2" for word in words]) == 1
    assert "another setting: threads is 2 now and was 1 there" in capfd.readouterr().err


def test_a_device_that_is_not_there_is_one_line(
    tmp_path: Path, capfd: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    out = tmp_path / "results"
    assert main(["bench", "goals", "--device", "cuda", "--out", str(out)]) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert "accelerator cuda was asked for, but is not there; this machine has " in line
    assert not out.exists()


def test_a_record_says_which_device_it_is_of(
    tmp_path: Path, capfd: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def measured(cells: Sequence[cases.Case], out: Path, **options: Any) -> dict[str, Any]:
        asked.update(options, cells=cells)
        rest: dict[str, Any] = {"modes": {}, "skipped": {}, "failed": "not here"}
        return {cell.key: {"cell": asdict(cell), **rest} for cell in cells}

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "A GPU/2")
    monkeypatch.setattr("hyena.bench.convolution.run.run", measured)
    monkeypatch.chdir(tmp_path)
    assert main(["bench", "quick", "--device", "cuda", "--lengths", "[16]"]) == 1
    assert capfd.readouterr().out.startswith("ours: torch backend, kernel none: it is the CPU's")
    assert {cell.device for cell in asked["cells"]} == {"cuda"}
    assert asked["limits"]["device"] == "cuda"
    (record,) = tmp_path.glob("benchmarks/results/convolution_a-gpu-2_*/results.json")
    assert json.loads(record.read_text())["setting"]["device"] == "cuda, A GPU/2"
