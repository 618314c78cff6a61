"""`hyena bench`, with processes that really measure, and what it asks them for."""

import json
from pathlib import Path

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
