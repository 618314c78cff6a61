"""What is written of sweeps: Markdown tables in the shape of the paper's Tables 4.2, A.2 and C.1,
figures, and all records."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hyena.experiments.cell import task_of, word
from hyena.experiments.measure import Measure, measure_of
from hyena.experiments.paper import paper_figure
from hyena.experiments.plan import FILE as SWEEP
from hyena.experiments.plan import Settings
from hyena.experiments.record import (
    RECORDS,
    Result,
    Standing,
    pooled,
    reached,
    read_records,
    read_standings,
    write_records,
)
from hyena.files import atomic, markdown
from hyena.plots import Point, draw_intervals, draw_learning
from hyena.tasks import build_task
from hyena.tasks.task import READS

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


FILE = "table.md"


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


def write_table(folders: Sequence[Path], out: Path) -> Path:
    """Writes ``table.md``, ``results.json`` (all records) and the figures.

    Args:
        folders: of sweeps, finished or not, or of tables.
        out: the folder to write to.

    Returns: the table's path.
    Raises: FileNotFoundError if there is neither in a folder; ValueError if files are damaged or
        the sweeps do not fit into one table; OSError if the folder cannot be written.
    """
    standings = [standing for folder in folders for standing in _standings_of(folder)]
    sections = lay_out(standings)
    out.mkdir(parents=True, exist_ok=True)
    write_records(out, standings)
    drawings = _draw(sections, out)
    atomic.write_text(out / FILE, table(sections, [path.name for path in drawings]))
    return out / FILE


def _standings_of(folder: Path) -> list[Standing]:
    """A sweep's, or where there is none those of a table that was made elsewhere."""
    if (folder / RECORDS).is_file() and not (folder / SWEEP).is_file():
        return read_records(folder)
    return read_standings(folder)


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
        tables: dict[tuple[int, ...], list[Standing]] = {}
        for standing in of_task:
            values = tuple(_task(standing)[name] or 0 for name in others)
            tables.setdefault(values, []).append(standing)
        for values in sorted(tables):
            given = [f"{AXES[n]} {v:,}" for n, v in zip(others, values, strict=True) if v]
            sections.append(_section(task, ", ".join([task, *given]), axis, tables[values]))
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
    measure = measure_of(build_task(task_of(standings[0].cell)))
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
    told = [{name: s.point[name] for name in telling if name in s.point} for s in standings]
    return [
        f"{standing.row}, {_settings(own)}" if own else standing.row
        for standing, own in zip(standings, told, strict=True)
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
    return int(getattr(build_task(task_of(standing.cell)), taken, 0))


def _task(standing: Standing) -> dict[str, Any]:
    """Its sizes."""
    return asdict(task_of(standing.cell))


RUNS = "## What was run"
"""Heading of the second half of a page: the runs behind the figures of the first."""

_LEGEND = """\
Each figure is the mean over the seeds of the trial that was best on validation sequences, with its
95% interval (of all seeds' test sequences together), and the seeds' range where they differ.
† training was ended by its minutes, not its steps. ‡ not all trials and seeds are finished.
§ trained on shorter sequences only, and tested at this length. "paper" is the
figure of Poli et al. 2023 (arXiv:2302.10866), Tables 4.2, A.2 and C.1."""


def table(sections: Sequence[Section], drawings: Sequence[str] = ()) -> str:
    """The whole page: the tables, and ``drawings``, names of PNG files, below them."""
    parts = ["# Recall and reasoning", _LEGEND]
    for section in sections:
        heading = f"## {section.title}: {_heading(section.measure)}"
        parts += [heading, markdown.table(_values(section))]
        if section.measure == "squared error":
            parts += _by_examples(section)
    parts.append(RUNS)
    parts += [f"![{Path(name).stem}]({name})" for name in drawings]
    for section in sections:
        parts += [f"### {section.title}", markdown.table(_runs(section)), _trials(section)]
        parts += [_failures(section), _commands(section)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _values(section: Section) -> list[list[str]]:
    """A row each, and a column of the paper's figures beside each of ours that has any."""
    columns = [[AXES[section.axis], *section.rows]]
    for column in section.columns:
        here = [section.at.get((name, column)) for name in section.rows]
        ours = ["" if s is None else _figure(s, section.measure) for s in here]
        paper = [None if s is None else paper_figure(_config(s)) for s in here]
        columns.append([f"{column:,}", *ours])
        if any(figure is not None for figure in paper):
            columns.append(["paper", *("" if v is None else f"{v:g}" for v in paper)])
    return [list(row) for row in zip(*columns, strict=True)]


def _figure(standing: Standing, measure: Measure) -> str:
    marks = "" if standing.complete else "‡"
    if not standing.seeds:
        return "failed" if standing.failures else marks
    if any(result.stopped == "minutes" for result in standing.seeds):
        marks = f"†{marks}"
    if any(_is_extended(result) for result in standing.seeds):
        marks += "§"
    mean, low, high = (_number(measure, value) for value in pooled(standing.seeds))
    values = [result.test.value for result in standing.seeds]
    ends = [_number(measure, end) for end in (min(values), max(values))]
    spread = f"; seeds {ends[0]}–{ends[1]}" if ends[0] != ends[1] else ""
    return f"{mean}{marks} ({low}–{high}{spread})"


def _config(standing: Standing) -> dict[str, Any]:
    """Of the chosen trial; of the first one where none is finished."""
    return standing.seeds[0].config if standing.seeds else standing.cell


def _is_extended(result: Result) -> bool:
    """Whether the model is tested on longer sequences than any that it was trained on."""
    longest = max((point["length"] for point in result.curve), default=0)
    return 0 < longest < build_task(task_of(result.config)).length


def _number(measure: Measure, value: float) -> str:
    return f"{value:.3g}" if measure == "squared error" else f"{100 * value:.1f}"


def _heading(measure: Measure) -> str:
    return measure if measure == "squared error" else f"{measure} in percent"


def _runs(section: Section) -> list[list[str]]:
    """What each figure took, a row each."""
    heading = ["", AXES[section.axis], "protocol", "trials", "chosen", "seeds", "steps"]
    rows = [[*heading, "reached at", "tokens", "minutes", "minutes of trials", "parameters", ""]]
    for name, column in itertools.product(section.rows, section.columns):
        standing = section.at.get((name, column))
        if standing is not None and standing.seeds and standing.best is not None:
            rows.append([name, f"{column:,}", *_run(standing, standing.best)])
    return rows


def _run(standing: Standing, best: int) -> list[str]:
    results = standing.seeds
    tried = [result for result in standing.tried if result is not None]
    return [
        str(results[0].config["training"]["protocol"]),
        f"{len(tried)} of {len(standing.trials)}",
        _settings(standing.trials[best]),
        f"{len(results)} of {standing.planned}",
        _each(f"{result.steps:,}" for result in results),
        _each(f"{reached(result)[1]:,}" for result in results),
        _each(f"{result.tokens / 1e6:.1f}M" for result in results),
        _each(f"{result.minutes:.1f}" for result in results),
        f"{sum(result.minutes for result in tried):.1f}",
        f"{results[0].parameters:,}",
        _each(_END[result.stopped] for result in results),
    ]


def _trials(section: Section) -> str:
    """What was reached by each trial, where there are several to choose among."""
    rows = [["", AXES[section.axis], "trial", "validation", "reached at", "minutes"]]
    for (name, column), standing in section.at.items():
        trials = zip(standing.trials, standing.tried, strict=True)
        for number, (settings, result) in enumerate(trials):
            if result is None or len(standing.trials) == 1:
                continue
            value, step = reached(result)
            bold = "**" if number == standing.best else ""
            shown = f"{bold}{_number(section.measure, value)}{bold}"
            took = [f"{step:,}", f"{result.minutes:.1f}"]
            rows.append([name, f"{column:,}", _settings(settings), shown, *took])
    if len(rows) == 1:
        return ""
    return f"Trials, the chosen ones' figures in bold:\n\n{markdown.table(rows)}"


def _settings(settings: Settings) -> str:
    return ", ".join(f"{name}={word(value)}" for name, value in settings.items())


_END = {
    "steps": "",
    "minutes": "minutes over",
    "accuracy": "accuracy reached",
    "diverged": "diverged",
}


def _each(words: Any) -> str:
    """The seeds' words, once if they are the same."""
    found = list(words)
    return found[0] if len(set(found)) == 1 else " / ".join(word or "–" for word in found)


def _by_examples(section: Section) -> list[str]:
    """For real-valued tasks: the squared error after each number of examples, and on average."""
    parts = []
    for column in section.columns:
        rows: list[list[str]] = []
        for name in section.rows:
            standing = section.at.get((name, column))
            if standing is None or not standing.seeds:
                continue
            details = [result.test.details for result in standing.seeds]
            own, best = _errors(details, "squared_error"), _errors(details, "least_squares")
            if not rows:
                examples = [str(n) for n in details[0]["examples"]]
                rows = [["examples", *examples, "mean", *(["ratio"] if best else [])]]
                rows += [["least squares", *_shown(best), ""]] if best else []
            # Of the mean squared error to that of least squares on the same prompts.
            ratio = [f"{sum(own) / sum(best):.3f}"] if best else []
            rows.append([name, *_shown(own), *ratio])
        if rows:
            parts += [f"{AXES[section.axis].capitalize()} {column:,}:", markdown.table(rows)]
    return parts


def _errors(details: list[dict[str, Any]], name: str) -> list[float]:
    """By the number of examples, the means over the seeds; empty if they have none such."""
    seeds = [detail.get(name, []) for detail in details]
    return [sum(column) / len(column) for column in zip(*seeds, strict=True)]


def _shown(errors: list[float]) -> list[str]:
    return [f"{value:.3g}" for value in [*errors, sum(errors) / len(errors)]]


def _failures(section: Section) -> str:
    return "\n".join(
        f"- {name} at {AXES[section.axis]} {column:,} failed: {failure}"
        for (name, column), standing in section.at.items()
        for failure in standing.failures
    )


def _commands(section: Section) -> str:
    """What runs each figure's first seed again."""
    commands = [standing.seeds[0].command for standing in section.at.values() if standing.seeds]
    if not commands:
        return ""
    text = "\n".join(commands)
    return (
        "Each figure's first seed, of the chosen trial, is run again by the following; where the "
        f"cell's folder is still there, with another --out.\n\n```sh\n{text}\n```"
    )


def _draw(sections: Sequence[Section], out: Path) -> list[Path]:
    """Draws ``TASK.png`` over the columns and ``TASK-learning.png`` for each task of which anything
    is finished."""
    drawn = []
    for task in dict.fromkeys(section.task for section in sections):
        its = [section for section in sections if section.task == task]
        if not any(standing.seeds for section in its for standing in section.at.values()):
            continue
        measure = its[0].measure
        percent, top = (1, None) if measure == "squared error" else (100, 100.0)
        drawn += [
            draw_intervals(
                {section.title: _points(section, percent) for section in its},
                out / f"{task}.png",
                xlabel=AXES[its[0].axis],
                ylabel=f"{_heading(measure)}, test",
                logarithmic=its[0].axis == "length",
                top=top,
            ),
            draw_learning(
                {title: runs for section in its for title, runs in _learning(section, percent)},
                out / f"{task}-learning.png",
                xlabel="training tokens, million",
                ylabel=f"{_heading(measure)}, validation",
                top=top,
            ),
        ]
    return drawn


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


def _learning(
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
