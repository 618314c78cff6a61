"""Which trial of a row is best, and what is known of it so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyena.experiments.interval import wilson
from hyena.experiments.measure import better
from hyena.experiments.plan import PlannedGroup, read_plan
from hyena.experiments.record import FAILED, Result, read_result
from hyena.experiments.sweep_config import Settings


@dataclass(frozen=True)
class Standing:
    """A row at a point of the grid, as far as it has come.

    Attributes:
        row: the row's name.
        point: the point's options, dotted.
        trials: what each trial adds to the row, dotted.
        cell: its first cell, plain.
        tried: the record of each trial with the first seed; None if it has none.
        best: the trial that is chosen among them; None if none is finished.
        seeds: the records of that trial for all seeds, in order, as many as are finished.
        planned: how many seeds there are to be.
        failures: the messages of cells that failed.
    """

    row: str
    point: Settings
    trials: list[Settings]
    cell: dict[str, Any]
    tried: list[Result | None]
    best: int | None
    seeds: list[Result]
    planned: int
    failures: list[str]

    @property
    def complete(self) -> bool:
        """Whether all trials, and all seeds of the best, are finished."""
        return None not in self.tried and len(self.seeds) == self.planned


def choose(results: Sequence[Result | None]) -> int | None:
    """The best of the results by what it reached on the validation sequences.

    Values at different lengths do not compare: one that was ended while it was still trained on
    shorter sequences comes after all that came further. Of equal ones the one that took fewer steps
    to get there.
    """
    best: int | None = None
    for i, result in enumerate(results):
        if result is None or not result.curve:
            continue
        other = results[best] if best is not None else None
        if other is None or _precedes(result, other):
            best = i
    return best


def reached(result: Result) -> tuple[float, int]:
    """The last value on the validation sequences, and the step at which it was first as good."""
    value = result.curve[-1]["value"]
    measure = result.test.measure
    for point in result.curve:
        same_length = point["length"] == result.curve[-1]["length"]
        if same_length and not better(measure, value, point["value"]):
            return value, point["step"]
    return value, result.steps


def _precedes(one: Result, other: Result) -> bool:
    length, other_length = one.curve[-1]["length"], other.curve[-1]["length"]
    if length != other_length:
        return bool(length > other_length)
    (value, step), (other_value, other_step) = reached(one), reached(other)
    if value != other_value:
        return better(one.test.measure, value, other_value)
    return step < other_step


def pooled(results: Sequence[Result]) -> tuple[float, float, float]:
    """The mean over seeds and the ends of its 95% interval, for their models as they are.

    Raises: ValueError if there are no results.
    """
    if not results:
        raise ValueError("a mean over seeds was asked for, but there are none")
    tests = [result.test for result in results]
    mean = sum(test.value for test in tests) / len(tests)
    if tests[0].measure != "squared error":
        return mean, *wilson(mean, sum(test.sequences for test in tests))
    halves = [(test.interval[1] - test.value) ** 2 for test in tests]
    half = math.sqrt(sum(halves)) / len(tests)
    return mean, max(0.0, mean - half), mean + half


def read_standings(out: Path) -> list[Standing]:
    """The standings of all groups of a sweep's folder, in its order. Raises: as `read_plan`."""
    return [_standing(group) for group in read_plan(out)]


def _standing(group: PlannedGroup) -> Standing:
    tried = [_read(folders[0]) for folders in group.folders]
    best = choose([result for result, _ in tried])
    others = [] if best is None else [_read(folder) for folder in group.folders[best][1:]]
    found = [] if best is None else [tried[best], *others]
    return Standing(
        row=group.row,
        point=group.point,
        trials=group.trials,
        cell=group.cell,
        tried=[result for result, _ in tried],
        best=best,
        seeds=[result for result, _ in found if result is not None],
        planned=len(group.seeds),
        failures=[failure for _, failure in [*tried, *others] if failure is not None],
    )


def _read(folder: Path) -> tuple[Result | None, str | None]:
    """The record of a cell, or why there is none."""
    if (folder / FAILED).is_file():
        return None, (folder / FAILED).read_text(encoding="utf-8").strip()
    try:
        return read_result(folder), None
    except ValueError as error:
        return None, str(error)
