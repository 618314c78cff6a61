"""What is known of cells: records of the finished ones, and the standings of a sweep.

Of the trials of a row the one that is best on validation sequences stands for it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hyena.experiments.cell import CellConfig, check_same_cell, command, plain, task_of
from hyena.experiments.finished import read_finished, write_finished
from hyena.experiments.jobs import FAILED
from hyena.experiments.measure import Measurement, better, wilson
from hyena.experiments.plan import PlannedGroup, Settings, read_plan
from hyena.files import atomic
from hyena.files.records import from_plain, to_plain
from hyena.machine import of_record

FORMAT_VERSION = 1

Stopped = Literal["steps", "minutes", "accuracy", "diverged"]
"""Why a training ended: all steps done, the minutes over, the accuracy reached, or a loss or
gradient that is not finite (the weights are then those before it)."""


@dataclass(frozen=True)
class Result:
    """A finished cell.

    Attributes:
        config: the cell, plain.
        command: the command line that runs it again.
        versions: of hyena, torch and Python, and which convolution ran.
        machine: processor and number of cores.
        threads: that were computed with.
        parameters: of the model.
        steps: that it was trained for.
        tokens: of their batches.
        minutes: that they took.
        total_minutes: with measuring and writing.
        stopped: see `Stopped`.
        curve: a table a measurement: step, phase, length and keys (most different ones in a
            sequence, None for all) of the batch before it, tokens, seconds (of training), loss
            (mean of the training losses since the one before), value (on the validation
            sequences).
        test: the final measurement, on test sequences.
    """

    config: dict[str, Any]
    command: str
    versions: dict[str, str]
    machine: dict[str, Any]
    threads: int
    parameters: int
    steps: int
    tokens: int
    minutes: float
    total_minutes: float
    stopped: Stopped
    curve: list[dict[str, Any]]
    test: Measurement

    def __post_init__(self) -> None:
        task_of(self.config)  # or no table could be made


def write_result(config: CellConfig, test: Measurement, **facts: Any) -> Result:
    """Writes the record into the cell's folder, atomically, and returns it.

    Args:
        config: the cell.
        test: the final measurement.
        facts: the other fields of `Result` that are not of the machine.
    """
    result = Result(
        config=plain(config), command=command(config), test=test, **of_record(), **facts
    )
    write_finished(config.out, result, FORMAT_VERSION)
    return result


def find_finished(config: CellConfig) -> Result | None:
    """The cell's record, if it is finished; then no note in its folder says that it failed.

    Raises: ValueError if the record is damaged, or of another cell.
    """
    result = read_result(config.out)
    if result is not None:
        check_same_cell(result.config, config)
        (config.out / FAILED).unlink(missing_ok=True)
    return result


def read_result(folder: Path) -> Result | None:
    """The record in a cell's folder; None if the cell is not finished.

    Raises: ValueError if it is damaged or of another format version.
    """
    return read_finished(folder, Result, FORMAT_VERSION)


@dataclass(frozen=True)
class Standing:
    """A row at a point of the grid, as far as it has come.

    Attributes:
        row, point, cell: as in `PlannedGroup`.
        trials: what each trial adds to the row.
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

    def __post_init__(self) -> None:
        task_of(self.cell)  # or no table could be made
        chosen = (None, *range(len(self.trials)))
        if len(self.tried) != len(self.trials) or self.best not in chosen:
            raise ValueError(f"{self.row} has {len(self.trials)} trials, which do not fit")

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
    finished = {i: r for i, r in enumerate(results) if r is not None and r.curve}
    return min(finished, key=lambda i: _rank(finished[i]), default=None)


def _rank(result: Result) -> tuple[int, float, int]:
    """The least is the best."""
    value, step = reached(result)
    loss = value if result.test.measure == "squared error" else -value
    return -result.curve[-1]["length"], loss, step


def reached(result: Result) -> tuple[float, int]:
    """The last value on the validation sequences, and the step at which it was first as good."""
    value = result.curve[-1]["value"]
    measure = result.test.measure
    for point in result.curve:
        same_length = point["length"] == result.curve[-1]["length"]
        if same_length and not better(measure, value, point["value"]):
            return value, point["step"]
    return value, result.steps


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
    """The standings of all groups of a sweep's folder, in its order.

    Raises: as `read_plan`; ValueError if a record is damaged, unless the sweep has noted that.
    """
    return [_of_group(group) for group in read_plan(out)]


def _of_group(group: PlannedGroup) -> Standing:
    tried = [_found(folders[0]) for folders in group.folders]
    best = choose([result for result, _ in tried])
    others = [] if best is None else [_found(folder) for folder in group.folders[best][1:]]
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


def _found(folder: Path) -> tuple[Result | None, str | None]:
    """The record of a cell, or why the last call of its sweep had none."""
    if (folder / FAILED).is_file():
        return None, (folder / FAILED).read_text(encoding="utf-8", errors="replace").strip()
    return read_result(folder), None


RECORDS = "results.json"


def write_records(folder: Path, standings: Sequence[Standing]) -> None:
    """Writes all that a table is made of, so that it can be made again, and others with it."""
    atomic.write_text(folder / RECORDS, json.dumps(to_plain(list(standings)), indent=1) + "\n")


def read_records(folder: Path) -> list[Standing]:
    """What `write_records` wrote. Raises: ValueError if it is damaged, OSError if not there."""
    path, advice = folder / RECORDS, "give the folder of a sweep or of its table"
    try:
        content = json.loads(path.read_bytes())
        if not isinstance(content, list):
            raise ValueError("it is not a list")
        return [from_plain(Standing, _with_cell(row)) for row in content]
    except (ValueError, RecursionError) as error:
        cause = " ".join(str(error).split())
        raise ValueError(
            f"{path} has no records of this version's `hyena tasks sweep`: {cause}; {advice}"
        ) from error


def _with_cell(row: Any) -> Any:
    """An older version left the cell out where it is the configuration of the first record."""
    if isinstance(row, dict) and "cell" not in row and row.get("tried"):
        return {**row, "cell": from_plain(dict[str, Any], row["tried"][0], "tried").get("config")}
    return row
