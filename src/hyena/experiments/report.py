"""What is written of sweeps: the table, the figures and all records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hyena.experiments import plan
from hyena.experiments.measure import Measure
from hyena.experiments.record import (
    RECORDS,
    Standing,
    pooled,
    read_records,
    read_standings,
    write_records,
)
from hyena.experiments.table import AXES, Section, lay_out, table
from hyena.files import atomic
from hyena.plots import Point, draw_intervals, draw_learning


def draw_sections(sections: Sequence[Section], out: Path) -> list[Path]:
    """Draws, for each task, ``TASK.png`` over the columns and ``TASK-learning.png``.

    Args: the tables; the folder to write to.

    Returns: the files; none for a task of which nothing is finished.
    Raises: ImportError if matplotlib is not installed; OSError if they cannot be written.
    """
    drawn = []
    for task in dict.fromkeys(section.task for section in sections):
        its = [section for section in sections if section.task == task]
        if not any(standing.seeds for section in its for standing in section.at.values()):
            continue
        measure = its[0].measure
        percent = 1 if measure == "squared error" else 100
        top = None if measure == "squared error" else 100.0
        drawn += [
            draw_intervals(
                {section.title: _points(section, percent) for section in its},
                out / f"{task}.png",
                xlabel=AXES[its[0].axis],
                ylabel=f"{_label(measure)}, test",
                logarithmic=its[0].axis == "length",
                top=top,
            ),
            draw_learning(
                {title: runs for section in its for title, runs in _runs(section, percent)},
                out / f"{task}-learning.png",
                xlabel="training tokens, million",
                ylabel=f"{_label(measure)}, validation",
                top=top,
            ),
        ]
    return drawn


def _label(measure: Measure) -> str:
    return measure if measure == "squared error" else f"{measure}, %"


def _points(section: Section, percent: int) -> dict[str, list[Point]]:
    """The figures of each row over the columns; beside errors those of least squares."""
    curves: dict[str, list[Point]] = {name: [] for name in section.rows}
    best: dict[int, float] = {}
    for (name, column), standing in section.at.items():
        if standing.seeds:
            mean, low, high = pooled(standing.seeds)
            curves[name].append(Point(column, percent * mean, percent * low, percent * high))
            if "least_squares_mean" in standing.seeds[0].test.details:
                best[column] = standing.seeds[0].test.details["least_squares_mean"]
    if best:
        curves["least squares"] = [Point(column, *3 * (best[column],)) for column in best]
    return curves


def _runs(
    section: Section, percent: int
) -> list[tuple[str, dict[str, list[list[tuple[float, float]]]]]]:
    """A panel a column: its title, and the learning curves of each row's seeds."""
    panels = []
    for column in section.columns:
        curves = {
            name: [
                [(point["tokens"] / 1e6, percent * point["value"]) for point in result.curve]
                for result in section.at[name, column].seeds
            ]
            for name in section.rows
            if (name, column) in section.at
        }
        panels.append((f"{section.title}, {AXES[section.axis]} {column:,}", curves))
    return panels


TABLE = "table.md"


def write_table(folders: Sequence[Path], out: Path) -> Path:
    """Writes ``table.md``, ``results.json`` (all records) and the figures.

    Args: folders of sweeps, finished or not, or of tables; the folder to write to.

    Returns: the table's path.
    Raises: FileNotFoundError if there is neither in a folder; ValueError if files are damaged or
        the sweeps do not fit into one table; OSError if the folder cannot be written.
    """
    standings = [standing for folder in folders for standing in _standings(folder)]
    sections = lay_out(standings)
    out.mkdir(parents=True, exist_ok=True)
    write_records(out, standings)
    drawings = draw_sections(sections, out)
    atomic.write_text(out / TABLE, table(sections, [path.name for path in drawings]))
    return out / TABLE


def _standings(folder: Path) -> list[Standing]:
    """A sweep's, or where there is none those of a table that was made elsewhere."""
    if (folder / RECORDS).is_file() and not (folder / plan.FILE).is_file():
        return read_records(folder)
    return read_standings(folder)
