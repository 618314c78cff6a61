"""The cells of a sweep."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hyena.cli.tasks.sweep import read_cell
from hyena.experiments import CellConfig, Row, SweepConfig, make_plan
from hyena.experiments.cell import plain
from hyena.experiments.plan import read_plan, write_plan

TASK = {"task": {"length": 8, "vocab_size": 6}}


def sweep(**changes: Any) -> SweepConfig:
    rows = [
        Row("hyena", {}, [{"model.filter.sine_freq": 1}, {"model": {"filter": {"width": 32}}}]),
        Row("attention", {"model.mixers": "attention"}, [{}, {"model.positions": "learned"}]),
    ]
    fields = {"out": Path("out"), "rows": rows, "base": TASK, "seeds": [3, 4], **changes}
    return SweepConfig(**fields)


def test_every_row_is_at_every_point_with_every_trial_and_seed() -> None:
    groups = make_plan(
        sweep(
            points=[
                {"task.length": 8, "training.steps": 5},
                {"task.length": 16, "training": {"steps": 7}},
            ],
            grid={"task.vocab_size": [6, 8], "training.optimizer.lr": [1e-3]},
            threads=2,
        ),
        read_cell,
    )
    assert [(group.row, *group.point.values()) for group in groups] == [
        (row, length, steps, vocab, 1e-3)
        for length, steps in ((8, 5), (16, 7))
        for vocab in (6, 8)
        for row in ("hyena", "attention")
    ]
    cells = [cell for group in groups for trial in group.cells for cell in trial]
    assert len(cells) == len({cell.out for cell in cells}) == 8 * 2 * 2
    cell = groups[-1].cells[1][1]
    assert (cell.task.length, cell.task.vocab_size, cell.training.steps) == (16, 8, 7)
    assert (cell.model.mixers, cell.model.positions) == ("attention", "learned")
    assert (cell.seed, cell.threads) == (4, 2)
    first, second = (trial[0].model.filter for trial in groups[0].cells)
    assert (first.sine_freq, first.width, second.sine_freq, second.width) == (1.0, 64, 14.0, 32)


def test_later_settings_win() -> None:
    row = Row("r", {"training.steps": 4, "training.warmup_steps": 5}, [{"training.steps": 6}])
    base = {**TASK, "training": {"steps": 1, "warmup_steps": 1, "batch": 1}}
    (group,) = make_plan(sweep(rows=[row], base=base, points=[{"training.batch": 2}]), read_cell)
    training = group.cells[0][0].training
    assert (training.batch, training.steps, training.warmup_steps) == (2, 6, 5)


def test_a_folder_belongs_to_a_cell_however_the_sweep_is_written() -> None:
    one = make_plan(sweep(), read_cell)[0].cells
    nested = [Row("hyena", {"model": {"filter": {"sine_freq": 1.0}}}, [{}])]
    other = make_plan(sweep(rows=nested, seeds=[4], threads=2), read_cell)[0].cells
    assert other[0][0].out == one[0][1].out
    assert one[0][0].out.name.startswith("hyena_seed-3_")
    longer = make_plan(sweep(grid={"training.steps": [7]}), read_cell)[0].cells
    assert longer[0][0].out.name.startswith("hyena_steps-7_seed-3_")
    changed = make_plan(sweep(base={**TASK, "training.batch": 7}), read_cell)[0].cells
    assert changed[0][0].out != one[0][0].out


def test_the_plan_can_be_read_back(tmp_path: Path) -> None:
    groups = make_plan(sweep(out=tmp_path, grid={"task.length": [8, 16]}), read_cell)
    write_plan(tmp_path, groups)
    planned = read_plan(tmp_path)
    assert [(p.row, p.point, p.trials) for p in planned] == [
        (g.row, g.point, g.trials) for g in groups
    ]
    assert [p.folders for p in planned] == [[[c.out for c in t] for t in g.cells] for g in groups]
    assert all(p.seeds == [3, 4] for p in planned)
    assert [p.cell for p in planned] == [plain(g.cells[0][0]) for g in groups]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"jobs": 0}, "jobs: expected at least 1, got 0"),
        ({"seeds": []}, r"seeds: expected one or more, all different, got \[\]"),
        ({"seeds": [1, 1]}, r"seeds: expected one or more, all different, got \[1, 1\]"),
        (
            {"grid": {"task.length": []}},
            r"grid: task.length: expected a list of values, all different, got \[\]",
        ),
        (
            {"grid": {"task.length": [8, 8]}},
            r"grid: task.length: expected .* all different, got \[8, 8\]",
        ),
        (
            {"grid": {"task.length": 8}},
            "grid: task.length: expected a list of values, all different, got 8",
        ),
        ({"points": []}, r"points: expected one or more, got \[\]"),
        ({"rows": [Row("a"), Row("a")]}, "rows: 'a' is the name of two"),
        (
            {"rows": [Row("a"), Row("b", {}, [{}, {}])]},
            "rows: to be fair, each needs the same number of trials.*: a has 1, b has 2",
        ),
        ({"rows": [Row("a", {}, [])]}, "the same number of trials, at least one: a has 0"),
        ({"rows": [Row("a", {"task": {"length": 4}})]}, "rows: a sets task.length, but rows are"),
        ({"rows": [Row("a", {}, [{"task.name": "x"}])]}, "rows: a sets task.name, but rows are"),
    ],
)
def test_a_sweep_that_makes_no_sense_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sweep(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": []}, "rows is empty"),
        ({"base": {"seed": 1}}, "seed is of the whole sweep; set it beside rows"),
        (
            {"base": {"model.widht": 1}},
            'row hyena, trial 1: unknown option "model.widht"; did you mean "model.width"',
        ),
        ({"rows": [Row("r", {"training.steps": "x"})]}, "row r, trial 1: training.steps: expected"),
        (
            {"rows": [Row("r", {}, [{"model.max_length": 4}])], "grid": {"task.length": [8]}},
            r'row r, trial 1 at {"task.length": 8}: model.max_length is 4, but',
        ),
        (
            {"rows": [Row("r", {}, [{"model": {"layers": 1}}])], "grid": {"model.layers": [1, 2]}},
            "row r, trial 1: model.layers is set by the grid or the points as well",
        ),
        (
            {
                "rows": [Row("r", {"model.filter.kind": "explicit"})],
                "grid": {"model.filter": [{"kind": "hyena"}, {"kind": "fourier"}]},
            },
            "row r, trial 1: model.filter.kind is set by the grid or the points as well",
        ),
        (
            {"points": [{"task.length": 8}], "grid": {"task": [{"length": 8}, {"length": 16}]}},
            "task.length is in both grid and points",
        ),
        (
            {"grid": {"task": [{"length": 8}], "task.length": [8]}},
            "task.length is in both grid and points, or in the grid twice",
        ),
        (
            {"points": [{"task.length": 8}, {"task": {"length": 8}}]},
            "row hyena task.length=8, trial 1: another trial or point has the same options",
        ),
        (
            {
                "rows": [Row("r")],
                "grid": {"model.filter": [{"width": 8, "depth": 3}, {"depth": 3, "width": 8}]},
            },
            "row r model.filter.depth=3 model.filter.width=8, trial 1: another trial or point has",
        ),
        (
            {"rows": [Row("r")], "points": [{}, {"training.steps": 1000}]},
            "row r training.steps=1000, trial 1: another trial or point has the same options",
        ),
        ({"rows": [Row("a+b"), Row("a-b")]}, "rows a.b and a-b have the same options, and names"),
        (
            {"rows": [Row("r", {"model.layers": 1})], "grid": {"model": [{"layers": 1}]}},
            "row r, trial 1: model.layers is set by the grid",
        ),
        (
            {"rows": [Row("r", {"model.mlp_width": 8})], "grid": {"model.mlp-width": [8, 16]}},
            "row r, trial 1: model.mlp_width is set by the grid",
        ),
        (
            {"rows": [Row("r", {}, [{}, {"model.layers": 2}])]},
            "row r, trial 2: another trial or point has the same options; leave out either",
        ),
        (
            {"points": [{"task": {"length": 8}}], "grid": {"task.length": [8, 16]}},
            "task.length is in both grid and points, or in the grid twice; leave it out of either",
        ),
        (
            {"rows": [Row("r", {"model.mixers": "h3"}, [{"model.head_dim": 16}])]},
            "row r, trial 1: model.head_dim has no effect on a model of h3; leave it out",
        ),
        ({"grid": {"task.length": [7]}}, r'row hyena, trial 1 at {"task.length": 7}: recall'),
        ({"base": {"help": True}}, "row hyena, trial 1"),
    ],
)
def test_every_cell_is_checked_before_any_runs(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_plan(sweep(**changes), read_cell)


def test_the_words_are_those_of_the_command_line() -> None:
    seen: list[list[str]] = []

    def read(words: Sequence[str]) -> CellConfig:
        seen.append(list(words))
        return read_cell(words)

    rules = [{"pattern": "skip", "lr": 0.1}]
    row = Row("r", {"training.optimizer.rules": rules, "training.clip": None})
    (group,) = make_plan(sweep(rows=[row], base={}), read)
    assert seen == [
        [
            '--training.optimizer.rules=[{"pattern": "skip", "lr": 0.1}]',
            "--training.clip=null",
            "--out=out",
            "--threads=1",
        ]
    ]
    training = group.cells[0][0].training
    assert (training.clip, training.optimizer.rules[0].lr) == (None, 0.1)


@pytest.mark.parametrize(
    "content", ["[]", '{"format_version": 2}', '{"format_version": 1, "groups": [{}]}']
)
def test_a_damaged_plan_is_named(content: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no sweep: it has no sweep\.json"):
        read_plan(tmp_path)
    (tmp_path / "sweep.json").write_text(content)
    with pytest.raises(ValueError, match=r"sweep\.json (is damaged: .*; run|has format version 2)"):
        read_plan(tmp_path)


def test_a_plan_that_was_changed_is_refused(tmp_path: Path) -> None:
    write_plan(tmp_path, make_plan(sweep(out=tmp_path), read_cell))
    file = tmp_path / "sweep.json"
    file.write_text(file.read_text().replace('"hyena"', '"others"', 1))
    with pytest.raises(ValueError, match=r"sweep\.json is damaged: its SHA-256 .*; run the sw"):
        read_plan(tmp_path)
    write_plan(tmp_path, make_plan(sweep(out=tmp_path), read_cell))
    assert "hyena" in {group.row for group in read_plan(tmp_path)}
