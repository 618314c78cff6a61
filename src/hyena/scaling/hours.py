"""How long a scaling sweep will take, from a few training steps of each family and size, and what
is left out of it so that it fits into the hours that it has."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from hyena.data import Manifest
from hyena.experiments.jobs import answer
from hyena.files.markdown import table
from hyena.files.records import from_plain, read_record, write_record
from hyena.scaling.config import ScalingConfig
from hyena.scaling.plan import Cell
from hyena.training import TrainConfig, read_metrics, train
from hyena.training.metrics import FILE as METRICS

SPEEDS = "speeds"
"""In the sweep's folder: a folder for each speed."""
FILE = "speed.json"
_FORMAT = 1
_STEPS, _FIRST = 12, 2  # steps that are timed; so many of them are slower, and do not count
_FORWARD = 1 / 3  # of a training step: its forward pass alone
_READ = 2  # how often documents are read in windows that overlap by half

Place = tuple[str, int, int]
"""A family at a size: its name, width and layers."""


@dataclass(frozen=True)
class Throughput:
    """How fast a family trains at a size, on the text of the sweep.

    Attributes:
        tokens_per_second: the median of a few training steps.
    """

    tokens_per_second: float


def place_of(cell: Cell) -> Place:
    """The family and size of a cell."""
    return cell.family, cell.size.width, cell.size.layers


def work() -> None:
    """What the process does that measures a speed; raises as `hyena.experiments.jobs.answer`."""
    answer(measure)


def measure(request: Any) -> int:
    """Takes a few training steps, and writes ``speed.json`` beside the run, which is removed.

    They are a run's own steps, on its own text: how long its documents are decides how attention
    is batched, which `hyena.training.speed` leaves aside.

    Args: the plain `hyena.training.TrainConfig`, whose run is in a folder of its own.
    Returns: number of the signal that stopped it, 0 if none did.
    Raises: as `hyena.training.train`.
    """
    config = from_plain(TrainConfig, request)
    if config.out.exists():
        shutil.rmtree(config.out)  # of a call that was stopped
    short = replace(
        config, stop_after=_STEPS, evaluation=replace(config.evaluation, every=0), resume=False
    )
    result = train(short)
    speeds = [record["tokens_per_s"] for record in read_metrics(config.out / METRICS)]
    shutil.rmtree(config.out)
    if not result.signal:
        found = Throughput(median(speeds[_FIRST:] or speeds))
        write_record(config.out.parent / FILE, found, _FORMAT)
    return result.signal


def read_speed(folder: Path) -> Throughput | None:
    """What `measure` has written into a folder; None if it has not yet.

    Raises: ValueError if it is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    return read_record(path, Throughput, _FORMAT, advice="remove it to measure the speed again")


def hours_of(cell: Cell, speed: Throughput, manifest: Manifest) -> float:
    """Hours of a cell by itself: its training, with the evaluations on the way, and the reading of
    validation and test documents at the end, each token of which takes a third of a training's."""
    config = cell.train
    splits = ["validation"] if cell.phase == "tune" else ["validation", "test"]
    read = _READ * sum(manifest.splits[split].tokens for split in splits)
    if config.evaluation.every:
        windows = config.evaluation.batches * (config.batch // config.accumulate)
        times = -(-config.steps // config.evaluation.every)
        read += times * windows * config.window()
    return (cell.tokens + _FORWARD * read) / speed.tokens_per_second / 3600


@dataclass(frozen=True)
class Outlook:
    """What is to be trained, and what is not.

    Attributes:
        cells: those that are kept.
        hours: of the whole.
        left_out: a sentence for each of the others, or for a size of them.
    """

    cells: list[Cell]
    hours: float
    left_out: list[str]


def within_hours(
    cells: Sequence[Cell], hours: Callable[[Cell], float], config: ScalingConfig
) -> Outlook:
    """Leaves out the cells of the grid that take too long, and then the largest size until the
    whole takes no longer than it may.

    Args:
        cells: of both phases, sizes ascending.
        hours: of a cell.
        config: says how long the whole and a cell may take.

    Raises: ValueError if the smallest size alone takes longer.
    """
    kept, left_out = [], []
    most = config.most_cell_hours
    for cell in cells:
        if cell.phase == "tune" or hours(cell) <= most:
            kept.append(cell)
        else:
            left_out.append(
                f"{cell} is left out: {hours(cell):.1f} h, more than most_cell_hours {most:g}"
            )

    def whole() -> float:
        return sum(map(hours, kept)) / config.jobs

    while config.most_hours is not None and whole() > config.most_hours:
        sizes = list(dict.fromkeys(str(cell.size) for cell in kept if cell.phase == "grid"))
        if len(sizes) < 2:
            raise ValueError(
                f"most_hours is {config.most_hours:g}, but the smallest size alone takes "
                f"{whole():.1f} h; raise it, or lower tokens_per_parameter"
            )
        before = whole()
        kept = [c for c in kept if c.phase == "tune" or str(c.size) != sizes[-1]]
        left_out.append(
            f"size {sizes[-1]} is left out: with it the whole takes {before:.1f} h, more than "
            f"most_hours {config.most_hours:g}"
        )
    return Outlook(kept, whole(), left_out)


def as_table(
    cells: Sequence[Cell], speeds: Mapping[Place, Throughput], hours: Callable[[Cell], float]
) -> str:
    """The plan in Markdown: a row for each family and size in each phase."""
    rows = [["phase", "family", "size", "cells", "most tokens", "tokens a second", "hours"]]
    groups: dict[tuple[str, Place], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.phase, place_of(cell)), []).append(cell)
    for (phase, place), group in groups.items():
        rows.append(
            [
                phase,
                group[0].family,
                str(group[0].size),
                str(len(group)),
                f"{max(cell.tokens for cell in group):,}",
                f"{speeds[place].tokens_per_second:,.0f}",
                f"{sum(map(hours, group)):.2f}",
            ]
        )
    return table(rows)
