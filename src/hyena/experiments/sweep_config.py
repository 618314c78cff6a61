"""What a sweep is made of."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hyena.experiments.cell import CellConfig

Settings = dict[str, Any]
"""Options of a cell by name: ``{"model": {"layers": 1}}``, or dotted, ``{"model.layers": 1}``."""


@dataclass
class Row:
    """A way of solving the task, such as an operator or a filter: a row of the table."""

    name: str
    """What tables call it."""
    settings: Settings = field(default_factory=dict)
    """Its options."""
    trials: list[Settings] = field(default_factory=lambda: [{}])
    """Options to choose among. Every row has as many, so that none is tuned more than another."""


@dataclass
class SweepConfig:
    """Cells for each row at each point of a grid.

    A cell's options are those of base, then of the point, the row and the trial. Each of these wins
    over base, and a trial over its row; what is set at a point no row and trial can set. At each
    point a row's trials run with the first seed; the one that is best on validation
    sequences also runs with the others.
    """

    out: Path
    """Folder of the sweep. Cells that it holds already are kept."""
    rows: list[Row] = field(default_factory=list)
    """The rows."""
    base: Settings = field(default_factory=dict, metadata={"options_of": CellConfig})
    """Options of all cells."""
    grid: dict[str, list[Any]] = field(default_factory=dict)
    """Values to be combined, by dotted option, such as task.length: [1024, 2048]."""
    points: list[Settings] = field(default_factory=lambda: [{}])
    """Options that go together, each combined with the whole grid; for instance a length with the
    number of steps it needs."""
    seeds: list[int] = field(default_factory=lambda: [0])
    """Seeds; the first one is that of the trials."""
    jobs: int = 1
    """Cells that run side by side, each in a process of its own."""
    threads: int = 1
    """Threads of each."""

    def __post_init__(self) -> None:
        for name in ("jobs", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds is {self.seeds}; expected one or more, all different")
        for name, values in self.grid.items():
            if not isinstance(values, list):
                raise ValueError(f"grid: {name} is {json.dumps(values)}; expected a list of values")
            if not values:
                raise ValueError(f"grid: {name} has no values; give some, or leave it out")
            if len({json.dumps(value) for value in values}) < len(values):
                raise ValueError(f"grid: {name} is {json.dumps(values)}; a value is there twice")
        if not self.points:
            raise ValueError("points is empty; give some, or leave it out")
        self._check_rows()

    def _check_rows(self) -> None:
        names = [row.name for row in self.rows]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"rows: {twice[0]!r} is the name of two; they need different ones")
        trials = {row.name: len(row.trials) for row in self.rows}
        if len(set(trials.values())) > 1 or 0 in trials.values():
            numbers = ", ".join(f"{name} has {number}" for name, number in trials.items())
            raise ValueError(
                f"rows: to be fair, each needs the same number of trials, at least one: {numbers}"
            )
        for row in self.rows:
            for settings in (row.settings, *row.trials):
                task = [name for name in flat(settings) if name.split(".")[0] == "task"]
                if task:
                    raise ValueError(
                        f"rows: {row.name} sets {task[0]}, but rows are ways to solve the same "
                        "task; set it in base, grid or points"
                    )


def flat(settings: Settings) -> Settings:
    """The same options with dotted names only, without hyphens."""
    found: Settings = {}
    for name, value in settings.items():
        name = name.replace("-", "_")
        if isinstance(value, dict):
            found.update({f"{name}.{inner}": v for inner, v in flat(value).items()})
        else:
            found[name] = value
    return found
