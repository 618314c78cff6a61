"""`hyena bench`, with processes that really measure, and what it asks them for."""

import json
from pathlib import Path

import pytest

from hyena.bench.convolution import cases
from hyena.cli import main
from hyena.cli.bench import Config, chosen

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


def test_the_goals_can_be_narrowed() -> None:
    whole, some = chosen(Config()), chosen(Config(widths=[256], lengths=[2048]))
    assert [cell.key for cell in whole] == [cell.key for cell in cases.goals()]
    assert some
    assert {(cell.width, cell.length) for cell in some} == {(256, 2048)}
    assert {cell.length for cell in chosen(Config(lengths=[131072]))} == {100003, 65536, 131072}


def test_the_sweep_takes_its_sizes_from_the_options() -> None:
    cells = chosen(Config(suite="sweep", widths=[64], lengths=[300, 500]))
    assert {(cell.width, cell.length) for cell in cells} == {(64, 300), (64, 500)}
    both = chosen(Config(suite="all"))
    assert {cell.suite for cell in both} == {"goals", "sweep"}


@pytest.mark.parametrize("mode", ["a", "b", "c"])
def test_only_the_modes_asked_for(mode) -> None:
    cells = chosen(Config(modes=[mode]))
    assert {cell.mode(n) for cell in cells for n in cell.contenders if cell.work != "error"} == {
        mode
    }
    assert any(cell.work == "error" for cell in cells)  # which are the same in every mode
