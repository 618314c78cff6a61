"""Rows of generation kept in a folder, and `hyena bench generate`."""

import json
from pathlib import Path
from typing import Any

import pytest
from fake_generation import result

from hyena.bench.folder import CELLS, outcome, read, run
from hyena.bench.generation.cases import Case, chosen, quick
from hyena.bench.generation.goals import goals
from hyena.bench.generation.run import setting
from hyena.cli import main

Output = pytest.CaptureFixture[str]
A = Case("planned", ("hyena", "attention"), 1, 16)
B = Case("grown", ("hyena", "attention"), 1, 16)


@pytest.fixture
def asked() -> list[Case]:
    return []


def go(asked: list[Case], rows: list[Case], out: Path, **more: Any) -> tuple[Any, list[str]]:
    def measure(row: Case, _: object) -> dict[str, Any]:
        asked.append(row)
        return result(row)

    lines: list[str] = []
    return run(rows, out, measure, say=lines.append, **more), lines


def test_each_row_is_a_file_and_is_not_measured_again(asked: list[Case], tmp_path: Path) -> None:
    seen: list[int] = []
    found, lines = go(asked, [A], tmp_path, progress=seen.append)
    assert found == read(tmp_path)
    assert found[A.key]["times"] == result(A)["times"]
    assert lines == ["planned, D=256, batch 1, context 16: hyena 1 ms, attention 30 ms"]
    found, lines = go(asked, [A, B], tmp_path, progress=seen.append)
    assert asked == [A, B]
    assert lines[0] == "1 of 2 cases is there already"
    assert set(found) == {A.key, B.key}
    assert seen == [0, 1, 1, 2]
    assert not list(tmp_path.rglob("*.part"))


def test_what_failed_or_has_fewer_contenders_is_measured_again(
    asked: list[Case], tmp_path: Path
) -> None:
    go(asked, [Case("planned", ("hyena",), 1, 16)], tmp_path)
    go(asked, [A], tmp_path)
    assert asked[1:] == [A]
    file = tmp_path / CELLS / f"{A.key}.json"
    file.write_text(json.dumps({**result(A), "failed": "why"}))
    go(asked, [A], tmp_path)
    assert asked[2:] == [A]


def test_an_outcome_in_a_line() -> None:
    assert outcome({"failed": "why"}) == "why"
    some = {**result(Case("model", ("hyena",), 1, 16)), "skipped": {"attention": "why"}}
    assert outcome(some) == "hyena 1 ms, attention left out"


def test_rows_are_chosen_by_context() -> None:
    some = chosen([2048], small=False, large=False)
    assert {row.context for row in some} == {2048}
    assert {row.kind for row in some} == {"planned", "grown"}
    assert chosen(None, small=True, large=False) == quick()
    with pytest.raises(ValueError, match=r"no row of the suite generate has lengths \[3\]; leave"):
        chosen([3], small=False, large=True)


def test_the_setting_names_what_the_allocator_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LD_PRELOAD", "GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_"):
        monkeypatch.delenv(name, raising=False)
    assert setting(6.0, None) == {
        "allocator": "the system's default",
        "block": 64,
        "seconds": 6.0,
        "repeats": "those of the rows",
    }
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "9")
    monkeypatch.setenv("GLIBC_TUNABLES", "x=1")
    assert setting(6.0, 3)["allocator"] == "GLIBC_TUNABLES=x=1 MALLOC_TRIM_THRESHOLD_=9"


def test_the_command_measures_reports_and_goes_on(tmp_path: Path, capsys: Output) -> None:
    out = tmp_path / "results"
    words = ["bench", "generate", "--quick", "true", "--lengths", "[100,140]", "--repeats", "1"]
    words += ["--seconds", "0.01", "--threads", "1", "--out", str(out)]
    assert main(words) == 0
    first, *lines, last = capsys.readouterr().out.splitlines()
    assert first.startswith("ours: ")
    kinds = ["planned", "growth", "model", "weights", "quantized"]
    assert [line.partition(",")[0] for line in lines] == kinds
    assert last == str(out)
    document = json.loads((out / "results.json").read_text())
    assert document["setting"]["threads"] == 1
    assert document["setting"]["repeats"] == 1
    assert len(document["goals"]) == len(goals())
    assert {row["row"]["kind"] for row in document["rows"].values()} == set(kinds)
    assert "## Weights: a whole model against reading its weights" in (out / "table.md").read_text()
    assert main(words) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "5 of 5 cases are there already",
        str(out),
    ]
