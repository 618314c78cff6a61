"""Tables, figures and records of sweeps."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from tiny_cells import cell, record

from hyena.experiments import Measurement, Result, Standing, write_table
from hyena.experiments.cell import plain
from hyena.experiments.finished import write_finished
from hyena.experiments.plan import Group, write_plan
from hyena.experiments.record import FORMAT_VERSION
from hyena.experiments.table import lay_out, table


def standing(
    row: str,
    length: int,
    values: list[list[float]],
    *,
    model: dict[str, Any] | None = None,
    planned: int = 1,
    **changes: Any,
) -> Standing:
    """Of a row at vocabulary 30 with two trials; the values of the better one's seeds."""
    task = {"length": length, "vocab_size": 30}
    config = cell(Path("x"), task=task, model={"layers": 2, **(model or {})}, training={})
    config.training.protocol = "paper"
    seeds = [record(config, value, **changes) for value in values]
    tried: list[Result | None] = [record(config, [0.0]), seeds[0]]
    trials = [{"model.layers": 1}, {"model.layers": 2, "model.order": 3}]
    return Standing(
        row, {"task.length": length}, trials, plain(config), tried, 1, seeds, planned, []
    )


def failed(row: str, length: int) -> Standing:
    whole = standing(row, length, [[1.0]])
    nothing: list[Result | None] = [None, None]
    return replace(whole, tried=nothing, best=None, seeds=[], failures=["no memory"])


def lines_of(standings: list[Standing]) -> list[str]:
    return table(lay_out(standings), ["recall.png"]).splitlines()


def test_figures_stand_beside_the_paper_s() -> None:
    attention = {"mixers": "attention"}
    lines = lines_of(
        [
            standing("Hyena", 8, [[0.5, 1.0]]),
            standing("Hyena", 131072, [[0.5, 0.9], [0.8]], planned=2),
            standing("attention", 8, [[0.25]], model=attention, planned=3),
            standing("attention", 32768, [[0.25]], model=attention, stopped="minutes"),
            failed("S4D", 8),
        ]
    )
    heading = lines.index("## recall, vocabulary 30: accuracy in percent")
    assert lines[heading + 2 : heading + 7] == [
        "| length | 8 | 32,768 | paper | 131,072 | paper |",
        "| --- | --- | --- | --- | --- | --- |",
        "| Hyena | 100.0 (96.3–100.0) |  |  | 85.0 (79.4–89.3; seeds 80.0–90.0) | 97.2 |",
        "| attention | 25.0‡ (17.5–34.3) | 25.0† (17.5–34.3) | 32.4 |  |  |",
        "| S4D | failed |  |  |  |  |",
    ]
    assert "![recall](recall.png)" in lines
    assert "- S4D at length 8 failed: no memory" in lines
    assert lines[lines.index("```sh") + 1] == "hyena tasks run"


def test_a_model_that_was_trained_on_shorter_sequences_is_marked() -> None:
    own, longer = standing("Hyena", 8, [[0.5]]), standing("Hyena", 16, [[0.2, 0.5, 0.5]])
    for lengths, mark in (((6, 10, 18), ""), ((18, 10, 10), ""), ((6, 10, 10), "§")):
        for point, length in zip(longer.seeds[0].curve, lengths, strict=True):
            point["length"] = length
        assert f"| Hyena | 50.0 (40.4–59.6) | 50.0{mark} (40.4–59.6) |" in lines_of([own, longer])


def test_the_chosen_trial_decides_on_the_paper_s_figure() -> None:
    whole = standing("Hyena", 131072, [[0.5]])
    assert "| Hyena | 50.0 (40.4–59.6) | 97.2 |" in lines_of([whole])
    whole.seeds[0].config["model"]["filter"]["kind"] = "explicit"
    assert "| Hyena | 50.0 (40.4–59.6) | 0.5 |" in lines_of([whole])


def test_what_each_figure_took_is_said() -> None:
    lines = lines_of([standing("Hyena", 8, [[0.5, 1.0, 1.0], [0.8]], planned=2)])
    heading = lines.index("### recall, vocabulary 30")
    assert lines[heading + 2].startswith("|  | length | protocol | trials | chosen | seeds | steps")
    assert lines[heading + 4] == (
        "| Hyena | 8 | paper | 2 of 2 | model.layers=2, model.order=3 | 2 of 2 | 30 / 10 "
        "| 20 / 10 | 0.0M | 0.5 | 1.0 | 123 |  |"
    )


def test_what_each_trial_reached_is_said() -> None:
    lines = lines_of([standing("Hyena", 8, [[0.5, 1.0, 1.0]]), failed("S4D", 8)])
    first = lines.index("Trials, the chosen ones' figures in bold:")
    assert lines[first + 2 : first + 7] == [
        "|  | length | trial | validation | reached at | minutes |",
        "| --- | --- | --- | --- | --- | --- |",
        "| Hyena | 8 | model.layers=1 | 0.0 | 10 | 0.5 |",
        "| Hyena | 8 | model.layers=2, model.order=3 | **100.0** | 20 | 0.5 |",
        "",
    ]


def test_a_single_trial_has_no_table_of_trials() -> None:
    whole = standing("Hyena", 8, [[1.0]])
    single = replace(whole, trials=whole.trials[1:], tried=whole.tried[1:], best=0)
    assert not any(line.startswith("Trials") for line in lines_of([single]))


@pytest.mark.parametrize(
    ("stopped", "text"), [("accuracy", "accuracy reached"), ("diverged", "diverged")]
)
def test_how_a_training_ended_is_said(stopped: Any, text: str) -> None:
    lines = lines_of([standing("Hyena", 8, [[0.5]], stopped=stopped)])
    assert lines[lines.index("### recall, vocabulary 30") + 4].endswith(f"| {text} |")


def test_errors_stand_beside_least_squares() -> None:
    task = {"name": "linear-functions", "dimension": 2, "length": 1024, "vocab_size": 30}
    config = cell(Path("x"), task=task)

    def result(error: float) -> Result:
        details = {
            "examples": [0, 1],
            "squared_error": [2.0 + error, error],
            "least_squares": [2.0, 0.5 * error],
        }
        test = Measurement("squared error", error, (error - 0.1, error + 0.1), 10, details)
        return replace(record(config, [error]), test=test)

    seeds = [result(1.0), result(2.0)]
    one = Standing("Hyena", {}, [{}], plain(config), [seeds[0]], 0, seeds, 2, [])
    lines = lines_of([one])
    heading = lines.index("## linear-functions: squared error")
    assert lines[heading + 4] == "| Hyena | 1.5 (1.43–1.57; seeds 1–2) |"
    examples = lines.index("Dimension 2:")
    assert lines[examples + 2 : examples + 6] == [
        "| examples | 0 | 1 | mean | ratio |",
        "| --- | --- | --- | --- | --- |",
        "| least squares | 2 | 0.75 | 1.38 |  |",
        "| Hyena | 3.5 | 1.5 | 2.5 | 1.818 |",
    ]


def test_errors_may_stand_alone() -> None:
    task = {"name": "linear-functions", "dimension": 2, "length": 1024, "vocab_size": 30}
    config = cell(Path("x"), task=task)
    details = {"examples": [0, 1], "squared_error": [3.0, 1.0]}
    test = Measurement("squared error", 2.0, (1.9, 2.1), 10, details)
    seeds = [replace(record(config, [2.0]), test=test)]
    lines = lines_of([Standing("Hyena", {}, [{}], plain(config), [seeds[0]], 0, seeds, 1, [])])
    examples = lines.index("Dimension 2:")
    assert lines[examples + 2 : examples + 5] == [
        "| examples | 0 | 1 | mean |",
        "| --- | --- | --- | --- |",
        "| Hyena | 3 | 1 | 2 |",
    ]


def sweep(out: Path, row: str, length: int, value: float | None) -> None:
    """A sweep of one cell, finished with a value or not."""
    config = cell(out / "cells" / "only", task={"length": length})
    write_plan(out, [Group(row, {"task.length": length}, [{}], [[config]])])
    if value is not None:
        config.out.mkdir()
        content = {"format_version": 1, **asdict(record(config, [0.5 * value, value]))}
        (config.out / "result.json").write_text(json.dumps(content))


def test_sweeps_are_written_into_one_table_with_figures_and_records(tmp_path: Path) -> None:
    sweep(tmp_path / "a", "Hyena", 8, 1.0)
    sweep(tmp_path / "b", "Hyena", 16, 0.5)
    sweep(tmp_path / "c", "attention", 8, None)
    path = write_table([tmp_path / name for name in "abc"], tmp_path / "out")
    assert path == tmp_path / "out" / "table.md"
    text = path.read_text()
    assert "| Hyena | 100.0 (96.3–100.0) | 50.0 (40.4–59.6) |" in text
    assert "| attention | ‡ |  |" in text
    for name in ("recall.png", "recall-learning.png"):
        assert f"({name})" in text
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")
    again = write_table([tmp_path / "out"], tmp_path / "again")  # of the records alone
    assert again.read_text() == text
    records = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [record["row"] for record in records] == ["Hyena", "Hyena", "attention"]
    assert records[0]["seeds"][0]["test"]["value"] == 1.0
    assert records[2]["tried"] == [None]


def test_a_sweep_without_a_result_has_no_figures(tmp_path: Path) -> None:
    sweep(tmp_path / "a", "Hyena", 8, None)
    text = write_table([tmp_path / "a"], tmp_path / "a").read_text()
    assert "| Hyena | ‡ |" in text
    assert ".png" not in text
    assert not list(tmp_path.rglob("*.png"))


def test_damaged_records_are_named(tmp_path: Path) -> None:
    for content, message in (
        ("[{", "results.json has no records of .*: Expecting property name .*; give the folder"),
        (
            '[{"row": "Hyena"}]',
            "no records of this version's `hyena tasks sweep`: .* is missing in Standing",
        ),
        ('["Hyena"]', "results.json has no records of this version's `hyena tasks sweep`"),
        (
            '[{"row": "a", "tried": [], "seeds": []}]',
            "no records of this version's `hyena tasks sweep`: .* is missing in Standing",
        ),
        ("{}", "results.json has no records of this version's `hyena tasks sweep`: it is not a l"),
    ):
        (tmp_path / "results.json").write_text(content)
        with pytest.raises(ValueError, match=message):
            write_table([tmp_path], tmp_path / "out")


def damaged(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_a_sweep_with_a_damaged_file_makes_no_table(tmp_path: Path) -> None:
    folder = tmp_path / "cells" / "only"
    config, out = cell(folder, task={"length": 8}), tmp_path / "out"
    result = "cells/only/result.json"
    for file, old, new, message in (
        (result, '"value": 1.0', '"value": 0.9', f"{result} is damaged: its SHA-256 is .*remove"),
        (result, "{", "", f"{result} is damaged: .*; if it is of this cell, remove it"),
        ("cells/only/SHA256SUMS", "  ", " ", "cells/only/SHA256SUMS is damaged: .*; restore it"),
        ("cells/only/SHA256SUMS", "result", "rseult", "SHA256SUMS does not list result.json, so"),
        ("sweep.json", '"Hyena"', '"Hyenb"', "sweep.json is damaged: .*; run the sweep again"),
        ("SHA256SUMS", "sweep", "sweet", "SHA256SUMS does not list sweep.json, so it is another"),
    ):
        write_plan(tmp_path, [Group("Hyena", {}, [{}], [[config]])])
        write_finished(folder, record(config, [1.0]), FORMAT_VERSION)
        assert "| Hyena | 100.0" in write_table([tmp_path], out).read_text()
        damaged(tmp_path / file, old, new)
        before = {path: path.read_bytes() for path in out.iterdir()}
        with pytest.raises(ValueError, match=message) as refusal:
            write_table([tmp_path], out)
        assert len(str(refusal.value).splitlines()) == 1
        assert {path: path.read_bytes() for path in out.iterdir()} == before
    (folder / "result.json").unlink()  # as somebody does who wants the cell measured again
    write_plan(tmp_path, [Group("Hyena", {}, [{}], [[config]])])
    assert "| Hyena | ‡ |" in write_table([tmp_path], out).read_text()
