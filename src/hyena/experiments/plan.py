"""What a sweep is made of: its configuration, its cells, and where in its folder they are."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hyena.experiments.cell import (
    FREE,
    CellConfig,
    model_config,
    options,
    plain,
    task_of,
    word,
)
from hyena.experiments.curriculum import build_phases
from hyena.experiments.executors import Executor
from hyena.files.records import flatten, read_listed, write_listed
from hyena.training.limits import check, check_choice, check_least

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
    executor: Executor = "processes"
    """Where they run: in processes of this machine, or as jobs of slurm; local jobs are such jobs
    on this machine, to try it out. Jobs need the extra cluster."""
    job_options: Settings = field(default_factory=dict)
    """Options of each job, those of submitit's update_parameters, such as slurm_partition and
    timeout_min."""

    def __post_init__(self) -> None:
        check_least(self, {"jobs": 1, "threads": 1})
        check_choice(self, {"executor": Executor})
        check(self, ["seeds"], lambda x: 0 < len(x) == len(set(x)), "one or more, all different")
        check(self, ["points"], bool, "one or more")
        for name, values in self.grid.items():
            words = [json.dumps(value) for value in values] if isinstance(values, list) else []
            if not 0 < len(words) == len(set(words)):
                raise ValueError(
                    f"grid: {name}: expected a list of values, all different, got "
                    f"{json.dumps(values)}"
                )
        self._check_rows()

    def _check_rows(self) -> None:
        check_fair("rows", [(row.name, row.trials) for row in self.rows])
        for row in self.rows:
            for settings in (row.settings, *row.trials):
                task = [name for name in flat(settings) if name.split(".")[0] == "task"]
                if task:
                    raise ValueError(
                        f"rows: {row.name} sets {task[0]}, but rows are ways to solve the same "
                        "task; set it in base, grid or points"
                    )


def check_fair(option: str, trials: Sequence[tuple[str, list[Settings]]]) -> None:
    """Raises ValueError unless what is compared has names of its own, and as many trials each.

    Args: the option that lists them; of each its name and trials.
    """
    names = [name for name, _ in trials]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"{option}: {twice[0]!r} is the name of two; they need different ones")
    counts = [len(its) for _, its in trials]
    if len(set(counts)) > 1 or 0 in counts:
        pairs = zip(names, counts, strict=True)
        numbers = ", ".join(f"{name} has {number}" for name, number in pairs)
        raise ValueError(
            f"{option}: to be fair, each needs the same number of trials, at least one: {numbers}"
        )


def flat(settings: Settings) -> Settings:
    """The same options with dotted names only, without hyphens."""
    return {name.replace("-", "_"): value for name, value in flatten(settings).items()}


FILE, CELLS = "sweep.json", "cells"
FORMAT_VERSION = 1

Read = Callable[[Sequence[str]], CellConfig]
"""Makes a cell of the words after ``hyena tasks run``; raises ValueError."""


@dataclass(frozen=True)
class Group:
    """A row at a point of the grid: trials, of which the best runs with all seeds.

    Attributes:
        row: the row's name.
        point: the point's options, dotted.
        trials: what each trial adds to the row, dotted.
        cells: by trial and seed.
    """

    row: str
    point: Settings
    trials: list[Settings]
    cells: list[list[CellConfig]]

    def __str__(self) -> str:
        return " ".join([self.row, *(f"{name}={word(v)}" for name, v in self.point.items())])


def make_plan(sweep: SweepConfig, read: Read) -> list[Group]:
    """The cells of a sweep, all checked: each model fits its task.

    Raises: ValueError, which names the row, if an option is unknown or does not fit, or two cells
        of the row are the same.
    """
    if not sweep.rows:
        raise ValueError(
            "rows is empty; a sweep needs at least one, such as those of "
            "configs/tasks/recall-quick.yaml"
        )
    groups = [_group(sweep, row, point, read) for point in _points(sweep) for row in sweep.rows]
    seen: set[tuple[str, str]] = set()
    folders: dict[Path, str] = {}
    for group in groups:
        for number, cells in enumerate(group.cells, start=1):
            folder = cells[0].out
            same = (group.row, folder.name.rpartition("_")[2])
            if same in seen:
                raise ValueError(
                    f"row {group}, trial {number}: another trial or point has the same options; "
                    "leave out either"
                )
            if folder in folders:
                raise ValueError(
                    f"rows {folders[folder]} and {group.row} have the same options, and names that "
                    "give the same folder; choose names of other letters or digits"
                )
            seen.add(same)
            folders[folder] = group.row
    return groups


def _points(sweep: SweepConfig) -> list[Settings]:
    """The options of each point and each choice in the grid, dotted."""
    found = []
    for point, *choice in itertools.product(sweep.points, *sweep.grid.values()):
        given = zip(sweep.grid, choice, strict=True)
        parts = [flat(point), *(flat({name: value}) for name, value in given)]
        for name in itertools.chain(*parts):
            if sum(name in part for part in parts) > 1:
                raise ValueError(
                    f"{name} is in both grid and points, or in the grid twice; leave it out of "
                    "either"
                )
        found.append({name: value for part in parts for name, value in part.items()})
    return found


def _group(sweep: SweepConfig, row: Row, point: Settings, read: Read) -> Group:
    trials = [flat(trial) for trial in row.trials]
    cells = []
    for number, trial in enumerate(trials, start=1):
        own = {**flat(row.settings), **trial}
        if point.keys() & own.keys():
            name = sorted(point.keys() & own.keys())[0]
            raise ValueError(
                f"row {row.name}, trial {number}: {name} is set by the grid or the points as well, "
                "so that a column would not be what it says; leave it out of either"
            )
        settings = {**flat(sweep.base), **point, **own}
        taken = {"out", "seed", "threads"} & settings.keys()
        if taken:
            name = sorted(taken)[0]
            raise ValueError(f"{name} is of the whole sweep; set it beside rows, not inside")
        words = [f"--{name}={word(value)}" for name, value in settings.items()]
        try:
            first = read([*words, f"--out={sweep.out}", f"--threads={sweep.threads}"])
            phases = build_phases(first)
            model_config(first, [phase.task for phase in phases])
        except ValueError as error:
            at = f" at {json.dumps(point)}" if point else ""
            raise ValueError(f"row {row.name}, trial {number}{at}: {error}") from error
        seeded = [replace(first, seed=seed) for seed in sweep.seeds]
        cells.append([replace(cell, out=_folder(sweep, row, point, cell)) for cell in seeded])
    return Group(row.name, point, trials, cells)


def _folder(sweep: SweepConfig, row: Row, point: Settings, cell: CellConfig) -> Path:
    """The digest keeps a cell apart from another one that a changed sweep gives its place to."""
    free = tuple(f"--{name}=" for name in FREE)
    words = sorted(word for word in options(cell) if not word.startswith(free))
    digest = hashlib.sha256("\n".join(words).encode()).hexdigest()[:8]
    parts = [row.name, *(f"{name.rpartition('.')[2]}-{word(v)}" for name, v in point.items())]
    name = "_".join(re.sub(r"[^\w.]+", "-", part).strip("-")[:40] for part in parts)
    return sweep.out / CELLS / f"{name[:120]}_seed-{cell.seed}_{digest}"


def write_plan(out: Path, groups: Sequence[Group]) -> None:
    """Writes ``sweep.json``: which folders belong to which row, point, trial and seed."""
    planned = [
        PlannedGroup(
            row=group.row,
            point=group.point,
            trials=group.trials,
            cell=plain(group.cells[0][0]),
            seeds=[cell.seed for cell in group.cells[0]],
            folders=[[Path(cell.out.name) for cell in trial] for trial in group.cells],
        )
        for group in groups
    ]
    (out / CELLS).mkdir(parents=True, exist_ok=True)
    write_listed(out / FILE, _Plan(planned), FORMAT_VERSION)


@dataclass(frozen=True)
class PlannedGroup:
    """A group as ``sweep.json`` has it: as `Group`, with folders in place of cells, and the first
    of these, plain."""

    row: str
    point: Settings
    trials: list[Settings]
    cell: dict[str, Any]
    seeds: list[int]
    folders: list[list[Path]]

    def __post_init__(self) -> None:
        task_of(self.cell)  # or no table could be made


@dataclass(frozen=True)
class _Plan:
    groups: list[PlannedGroup]


def read_plan(out: Path) -> list[PlannedGroup]:
    """The groups of a sweep's folder.

    Raises: FileNotFoundError if there is no sweep in it; ValueError if sweep.json is damaged.
    """
    path = out / FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"{out} holds no sweep: it has no {FILE}; give the folder that was --out of "
            "`hyena tasks sweep`"
        )
    plan = read_listed(path, _Plan, FORMAT_VERSION, advice="run the sweep again, which writes it")
    return [
        replace(group, folders=[[out / CELLS / name for name in t] for t in group.folders])
        for group in plan.groups
    ]
