"""`hyena bench`, with processes that really measure, and what it asks them for."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from hyena.bench.convolution import cases
from hyena.bench.model import cases as models
from hyena.bench.model.work import build
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


def test_whole_models_are_measured_in_processes_and_go_on(
    tmp_path: Path, capfd: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    def few(suite: str, *, small: bool, today: bool) -> list[models.Case]:
        chosen = whole(suite, small=small, today=today)  # type: ignore[arg-type]
        return [case for case in chosen if case.name == "small 50257 tokens at 16384"]

    whole = models.chosen
    monkeypatch.setattr(models, "chosen", few)
    words = ["bench", "train", "--quick", "true", "--threads", "1", "--out", str(tmp_path)]
    assert main([*words, "--old", sys.executable]) == 0
    printed = capfd.readouterr().out
    assert "small 50257 tokens at 16384: ours " in printed
    assert ", ours_today " in printed
    document = json.loads((tmp_path / "results.json").read_text())
    ((key, row),) = document["rows"].items()
    assert key == "small-50257-tokens-at-16384"
    assert set(row["peak"]) == {"ours", "ours_today"}
    assert row["builds"]["older"] == row["builds"]["this"] == build()
    assert {goal["met"] for goal in document["goals"]} == {None}
    assert (tmp_path / "table.md").read_text().startswith("# A step of training\n")
    assert main(words) == 0
    assert "there already" in capfd.readouterr().out


def test_rows_of_genomics_are_chosen_by_their_names(tmp_path: Path, capfd: Output) -> None:
    words = ["bench", "genomes", "--quick", "true", "--threads", "1", "--out", str(tmp_path)]
    assert main([*words, "--only", "preparing"]) == 0
    printed = capfd.readouterr().out
    assert "small preparing 48 Mb: ours " in printed
    document = json.loads((tmp_path / "results.json").read_text())
    assert set(document["rows"]) == {"small-preparing-48-Mb"}
    assert {goal["met"] for goal in document["goals"]} == {None}
    text = (tmp_path / "table.md").read_text()
    assert text.startswith("# Genomics\n")
    assert "| small preparing 48 Mb | ours | 20,000 |" in text
    assert main([*words, "--only", "hyena-se forward"]) == 0
    assert "hyena-se forward, D=32, L=160, default allocator: ours " in capfd.readouterr().out
    assert len(json.loads((tmp_path / "results.json").read_text())["rows"]) == 2


def test_a_system_that_does_not_count_memory_is_one_line(
    tmp_path: Path, capfd: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyena.bench.model.work._STATUS", tmp_path / "missing")
    monkeypatch.setitem(sys.modules, "resource", None)
    assert main(["bench", "train", "--quick", "true", "--out", str(tmp_path / "out")]) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: the memory of whole models is read from /proc or counted by ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("memory --device cuda", "the suite memory is measured on the CPU; leave --device out"),
        ("generate --device cuda", "the suite generate is measured on the CPU; leave --device"),
        ("train --widths [64]", "the suite train has no widths; leave --widths out"),
        ("train --lengths [64]", "the suite train has no lengths; leave --lengths out"),
        ("memory --seconds 1", "the suite memory has no seconds; leave --seconds out"),
        ("goals --quick true", "the suite goals has no quick; leave --quick out"),
        ("memory --large true", "the suite memory has no large; leave --large out"),
        ("goals --old python", "the suite goals has no old; leave --old out"),
        ("train --old no/python", "old: expected the Python of an older build, no/python is no"),
        ("genomes --lengths [64]", "the suite genomes has no lengths; leave --lengths out"),
        ("genomes --old python", "the suite genomes has no old; leave --old out"),
        ("genomes --device cuda", "the suite genomes is measured on the CPU; leave --device out"),
        ("train --only x", "no row of the suite train has 'x' in its name, such as '50257 "),
    ],
)
def test_options_of_other_suites_are_refused(words: str, message: str, capfd: Output) -> None:
    assert main(["bench", *words.split()]) != 0
    assert message in capfd.readouterr().err


def test_a_folder_of_another_kind_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "train.yaml").write_text("steps: 3\n")
    assert main(["bench", "quick", "--fresh", "true", "--out", str(tmp_path)]) == 1
    assert "is the folder of a run of `hyena train`, which this" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["train.yaml"]
