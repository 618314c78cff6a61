"""How the standings of sweeps are laid out: tables of rows and columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hyena.experiments.cell import word
from hyena.experiments.measure import Measure, measure_of
from hyena.experiments.standings import Standing
from hyena.tasks import TaskConfig, build_task
from hyena.tasks.config import READS

# Fields of a task that can be the columns of a table, the first of those that vary, and their
# names in print.
AXES = {
    "length": "length",
    "vocab_size": "vocabulary",
    "alphabet": "alphabet",
    "most_keys": "keys a sequence",
    "digits": "digits",
    "dimension": "dimension",
    "pairs": "pairs",
    "copy_length": "copied tokens",
    "triggers": "triggers",
}


@dataclass(frozen=True)
class Section:
    """One table.

    Attributes:
        task: the task's name.
        title: the task and its sizes that are the same in the whole table.
        measure: what its figures are.
        axis: the field of the task that tells the columns apart, a key of `AXES`.
        rows: names, in order.
        columns: values of the axis, ascending.
        at: standings by row and column.
    """

    task: str
    title: str
    measure: Measure
    axis: str
    rows: list[str]
    columns: list[int]
    at: dict[tuple[str, int], Standing]


def lay_out(standings: Sequence[Standing]) -> list[Section]:
    """Tables of all standings: one for each task, and for each of its sizes but the columns'.

    Rows of one name that differ in other options at the same place are told apart by these.

    Raises: ValueError if two standings have the same place in all respects.
    """
    sections = []
    for task in dict.fromkeys(_task(standing)["name"] for standing in standings):
        of_task = [standing for standing in standings if _task(standing)["name"] == task]
        varying = [name for name in AXES if len({_task(s)[name] for s in of_task}) > 1]
        sizes = [name for name in AXES if name in READS[task]]
        axis = (varying or sizes)[0]
        others = [name for name in sizes if name != axis]
        for values in sorted({tuple(_task(s)[name] or 0 for name in others) for s in of_task}):
            there = [s for s in of_task if tuple(_task(s)[n] or 0 for n in others) == values]
            given = [(n, v) for n, v in zip(others, values, strict=True) if v]
            title = ", ".join([task, *(f"{AXES[name]} {value:,}" for name, value in given)])
            sections.append(_section(task, title, axis, there))
    return sections


def _section(task: str, title: str, axis: str, standings: list[Standing]) -> Section:
    names = _names(axis, standings)
    at: dict[tuple[str, int], Standing] = {}
    for name, standing in zip(names, standings, strict=True):
        place = (name, _size(standing, axis))
        if place in at:
            raise ValueError(
                f"{name} at {AXES[axis]} {place[1]:,} of {title} is there twice; "
                "make the table of fewer sweeps, or give the rows different names"
            )
        at[place] = standing
    rows = list(dict.fromkeys(names))
    columns = sorted({column for _, column in at})
    measure = measure_of(build_task(TaskConfig(**_task(standings[0]))))
    return Section(task, title, measure, axis, rows, columns, at)


def _names(axis: str, standings: list[Standing]) -> list[str]:
    """The rows' names, with the options that tell those at the same place apart."""
    places: dict[tuple[str, int], list[Standing]] = {}
    for standing in standings:
        places.setdefault((standing.row, _size(standing, axis)), []).append(standing)
    telling: dict[str, None] = {}
    for crowd in places.values():
        for name in dict.fromkeys(name for standing in crowd for name in standing.point):
            if len({word(standing.point.get(name)) for standing in crowd}) > 1:
                telling[name] = None
    return [
        ", ".join(
            [s.row, *(f"{name}={word(s.point[name])}" for name in telling if name in s.point)]
        )
        for s in standings
    ]


def _size(standing: Standing, axis: str) -> int:
    """A size of its task; where none is given, what the task takes for it, and has as an attribute;
    else 0."""
    sizes = _task(standing)
    if sizes[axis] is not None:
        return int(sizes[axis])
    if axis == "most_keys" and sizes["alphabet"] is not None:
        return int(sizes["alphabet"])
    taken = "keys" if axis in ("most_keys", "alphabet") else axis
    return int(getattr(build_task(TaskConfig(**sizes)), taken, 0))


def _task(standing: Standing) -> dict[str, Any]:
    """Its sizes; those that an older record lacks are at their defaults."""
    return asdict(TaskConfig(**standing.cell["task"]))
