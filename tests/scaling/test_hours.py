"""How long a sweep takes, and what is left out of it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_sweeps import small

from hyena.data import read_manifest
from hyena.files.records import to_plain
from hyena.scaling import Cell, ScalingConfig, Size, make_plan
from hyena.scaling.hours import (
    Throughput,
    as_table,
    hours_of,
    measure,
    place_of,
    read_speed,
    within_hours,
)


def plan(data: Path, **changes: Any) -> tuple[ScalingConfig, list[Cell]]:
    sizes = [Size(8, 1), Size(8, 2), Size(16, 2)]
    config = small(data, Path("out"), sizes=sizes, **changes)
    return config, make_plan(config, {"Hyena": 0, "attention": 0})


def hours(**of_sizes: float) -> Callable[[Cell], float]:
    """Of the cells of each size in the grid; a trial takes 1 / 8."""

    def found(cell: Cell) -> float:
        if cell.phase == "tune":
            return 1 / 8
        return of_sizes[f"of_{cell.size.width}x{cell.size.layers}"]

    return found


def test_hours_are_those_of_training_evaluating_and_reading(data: Path) -> None:
    _, cells = plan(data)
    splits = read_manifest(data).splits
    tune, grid = cells[0], cells[-1]
    grid.train.steps, grid.train.evaluation.every = 21, 10
    for cell, read in (
        (tune, 2 * splits["validation"].tokens),
        (grid, 2 * splits["validation"].tokens + 2 * splits["test"].tokens),
    ):
        config = cell.train
        times = -(-config.steps // config.evaluation.every)
        windows = times * 2 * 4  # batches of 4
        expected = (cell.tokens + (read + windows * 16) / 3) / 100 / 3600
        assert hours_of(cell, Throughput(100.0), read_manifest(data)) == pytest.approx(expected)
    assert -(-grid.train.steps // grid.train.evaluation.every) == 3
    grid.train.evaluation.every = 0
    expected = (grid.tokens + read / 3) / 100 / 3600
    assert hours_of(grid, Throughput(100.0), read_manifest(data)) == pytest.approx(expected)


def test_what_fits_is_kept(data: Path) -> None:
    config, cells = plan(data, most_hours=100.0)
    found = within_hours(cells, hours(of_8x1=1, of_8x2=1, of_16x2=1), config)
    assert found.cells == cells
    assert found.left_out == []
    assert found.hours == pytest.approx(4 / 8 + 12)
    config.jobs, config.most_hours = 2, None
    assert within_hours(cells, hours(of_8x1=1, of_8x2=1, of_16x2=1), config).hours == 6.25


def test_the_largest_sizes_are_left_out_first(data: Path) -> None:
    config, cells = plan(data, most_hours=8.6)
    found = within_hours(cells, hours(of_8x1=1, of_8x2=1, of_16x2=1.5), config)
    assert {str(cell.size) for cell in found.cells} == {"8 x 1", "8 x 2"}
    assert found.hours == pytest.approx(8.5)
    assert found.left_out == [
        "size 16 x 2 is left out: with it the whole takes 14.5 h, more than most_hours 8.6"
    ]
    found = within_hours(cells, hours(of_8x1=1, of_8x2=1.5, of_16x2=0.5), config)
    assert {str(cell.size) for cell in found.cells} == {"8 x 1"}
    assert len(found.left_out) == 2
    assert sum(cell.phase == "tune" for cell in found.cells) == 4


def test_a_training_that_takes_too_long_is_left_out_alone(data: Path) -> None:
    config, cells = plan(data, most_cell_hours=1.0)

    def found(cell: Cell) -> float:
        return 1.25 if str(cell.size) == "16 x 2" and cell.tokens_per_parameter == 0.5 else 0.5

    outlook = within_hours(cells, found, config)
    assert len(outlook.cells) == len(cells) - 2
    assert outlook.left_out[0] == (
        "Hyena 16 x 2, 0.5 tokens a parameter, seed 0 is left out: 1.2 h, more than "
        "most_cell_hours 1"
    )


def test_the_smallest_size_has_to_fit(data: Path) -> None:
    config, cells = plan(data, most_hours=2.0)
    message = "most_hours is 2, but the smallest size alone takes 4.5 h; raise it, or lower tokens"
    with pytest.raises(ValueError, match=message):
        within_hours(cells, hours(of_8x1=1, of_8x2=1, of_16x2=1), config)


def test_the_table_has_a_row_for_each_family_and_size(data: Path) -> None:
    _, cells = plan(data)
    speeds = {place_of(cell): Throughput(1234.5) for cell in cells}
    lines = as_table(cells, speeds, hours(of_8x1=1, of_8x2=1, of_16x2=1)).splitlines()
    assert lines[0] == ("| phase | family | size | cells | most tokens | tokens a second | hours |")
    assert len(lines) == 2 + 2 + 6
    tokens = max(cell.tokens for cell in cells if cell.phase == "tune")
    assert lines[2] == f"| tune | Hyena | 8 x 1 | 2 | {tokens:,} | 1,234 | 0.25 |"
    assert lines[-1].startswith("| grid | attention | 16 x 2 | 2 | ")
    assert lines[-1].endswith(" | 1,234 | 2.00 |")


def test_a_speed_is_that_of_training_steps(data: Path, tmp_path: Path) -> None:
    _, cells = plan(data)
    assert read_speed(tmp_path / "speed") is None
    request = to_plain(replace(cells[-1].train, out=tmp_path / "speed" / "run"))
    (tmp_path / "speed" / "run").mkdir(parents=True)
    (tmp_path / "speed" / "run" / "metrics.jsonl").write_text("of a call that was killed")
    assert measure(request) == 0
    found = read_speed(tmp_path / "speed")
    assert found is not None
    assert found.tokens_per_second > 0
    assert [path.name for path in (tmp_path / "speed").iterdir()] == ["speed.json"]
    (tmp_path / "speed" / "speed.json").write_text("{}")
    with pytest.raises(ValueError, match=r"speed\.json is damaged: .*; remove it to measure"):
        read_speed(tmp_path / "speed")
