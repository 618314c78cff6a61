"""The choice among trials, and what is known of a row so far."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from tiny_cells import cell, record

from hyena.experiments import Measurement, Result, read_standings
from hyena.experiments.plan import Group, write_plan
from hyena.experiments.record import FAILED, choose, pooled, reached
from hyena.files.atomic import write_text

CELL = cell(Path("x"))


def errors(values: list[float]) -> Result:
    """A record of a real-valued task."""
    test = Measurement("squared error", values[-1], (0.0, 1.0), 10, {})
    return replace(record(CELL, values), test=test)


def test_the_last_accuracy_decides_and_then_the_steps_to_it() -> None:
    low, high = record(CELL, [0.9, 0.5]), record(CELL, [0.1, 0.6])
    assert choose([low, high]) == 1
    slow, fast = record(CELL, [0.1, 0.2, 1.0]), record(CELL, [0.3, 1.0, 1.0])
    assert (reached(slow), reached(fast)) == ((1.0, 30), (1.0, 20))
    assert choose([slow, fast]) == 1
    assert choose([fast, fast]) == 0  # the first of equal ones


def test_the_test_does_not_choose() -> None:
    assert choose([record(CELL, [0.5], test=1.0), record(CELL, [0.6], test=0.0)]) == 1


def test_trials_without_a_record_are_passed_over() -> None:
    assert choose([None, record(CELL, [0.1]), None]) == 1
    assert choose([None, None]) is None
    assert choose([]) is None
    assert choose([record(CELL, [], test=0.5), record(CELL, [0.1])]) == 1


def test_the_smaller_squared_error_is_better() -> None:
    assert choose([errors([0.5, 0.4]), errors([0.5, 0.3])]) == 1
    assert reached(errors([0.2, 0.5, 0.4, 0.6, 0.5])) == (0.5, 10)


def test_a_value_at_another_length_was_not_reached_at_this_one() -> None:
    result = record(CELL, [1.0, 0.5, 1.0])
    result.curve[0]["length"] = 5
    assert reached(result) == (1.0, 30)


def test_who_came_to_longer_sequences_is_chosen() -> None:
    ended, whole = record(CELL, [0.5, 0.9]), record(CELL, [0.5, 0.6])
    for point in ended.curve:
        point["length"] = 6  # its minutes were over before the last phase
    assert choose([ended, whole]) == choose([None, whole, ended]) == 1
    assert choose([ended, None]) == 0


def test_seeds_are_pooled() -> None:
    mean, low, high = pooled([record(CELL, [1.0]), record(CELL, [0.5])])
    assert mean == 0.75
    assert (low, high) == pytest.approx((0.6858, 0.8049), abs=1e-3)  # of 150 in 200
    mean, low, high = pooled([errors([0.5]), errors([0.3])])
    assert mean == pytest.approx(0.4)
    half = (0.5**2 + 0.7**2) ** 0.5 / 2
    assert (low, high) == pytest.approx((max(0, 0.4 - half), 0.4 + half))
    with pytest.raises(ValueError, match="a mean over seeds was asked for"):
        pooled([])


def write(folder: Path, result: Result) -> None:
    folder.mkdir(parents=True)
    write_text(folder / "result.json", json.dumps({"format_version": 1, **asdict(result)}))


def test_a_sweep_stands_where_its_records_are(tmp_path: Path) -> None:
    cells = [
        [cell(tmp_path / "cells" / f"{trial}-{seed}", seed=seed) for seed in (0, 1)]
        for trial in range(3)
    ]
    write_plan(tmp_path, [Group("hyena", {"task.length": 8}, [{}, {"a": 1}, {"a": 2}], cells)])
    (empty,) = read_standings(tmp_path)
    assert (empty.tried, empty.best, empty.seeds) == ([None, None, None], None, [])
    assert not empty.complete
    results = [record(cells[i][0], [value]) for i, value in enumerate((0.2, 0.7))]
    for config, result in zip((cells[0][0], cells[1][0]), results, strict=True):
        write(config.out, result)
    cells[2][0].out.mkdir(parents=True)
    (cells[2][0].out / FAILED).write_text("no memory\n")
    (some,) = read_standings(tmp_path)
    assert (some.row, some.point, some.cell["task"]["length"]) == ("hyena", {"task.length": 8}, 8)
    assert (some.tried, some.best, some.seeds) == ([*results, None], 1, results[1:])
    assert some.failures == ["no memory"]
    assert not some.complete
    third = record(cells[2][0], [0.1])
    (cells[2][0].out / FAILED).unlink()
    cells[2][0].out.rmdir()
    write(cells[2][0].out, third)
    other = record(cells[1][1], [0.8])
    write(cells[1][1].out, other)
    (all_of_it,) = read_standings(tmp_path)
    assert (all_of_it.best, all_of_it.seeds) == (1, [results[1], other])
    assert (all_of_it.complete, all_of_it.failures) == (True, [])
