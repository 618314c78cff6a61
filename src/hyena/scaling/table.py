"""What is written of a scaling sweep: what each family saves, every training, and two figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hyena.arguments import plural
from hyena.files import atomic, markdown
from hyena.files.records import flatten, from_plain
from hyena.plots import Measured, draw_scaling
from hyena.scaling.changes import changes
from hyena.scaling.comparison import LEGEND, comparisons, find_reference
from hyena.scaling.config import Change, Family
from hyena.scaling.fit import fit_curves, fit_joint
from hyena.scaling.grid import (
    MEASURES,
    Grid,
    Measure,
    Shape,
    digits,
    lay_out,
    millions,
    over_seeds,
    runs,
)
from hyena.scaling.plan import FILE as PLAN
from hyena.scaling.plan import Planned, read_plan
from hyena.scaling.record import Bits, Result, at_speeds, choose, read_results
from hyena.scaling.saving import averaged

FILE = "table.md"
Changed = tuple[str, Sequence[str]]
"""A family, and the names of the changes to it."""
RUNS = "## What was trained"
"""Heading of the second half of a page: the trainings behind the figures of the first."""


def write_table(folder: Path, out: Path | None = None, *, reference: str | None = None) -> Path:
    """Writes ``table.md`` and the figures, as far as the sweep has come.

    Args:
        folder: of the sweep.
        out: the folder to write to; none takes that of the sweep.
        reference: the family that the others are compared with; none takes the first whose layers
            are all attention, if there is one.

    Returns: the table's path.
    Raises: FileNotFoundError if there is no scaling sweep in the folder; ValueError if a record is
        damaged, or no training is of the family ``reference``; OSError if a folder cannot be read
        or written; ImportError without matplotlib.
    """
    planned = read_plan(folder)
    results = at_speeds(read_results(folder), planned.speeds)
    changed = _changed(planned)
    families = [r for r in results if changed is None or r.family not in changed[1]]
    reference = find_reference(families, reference)
    out = folder if out is None else out
    out.mkdir(parents=True, exist_ok=True)
    drawings = _draw(lay_out(families), out)
    text = table(
        results,
        reference=reference,
        changed=changed,
        drawings=[path.name for path in drawings],
        left_out=planned.left_out,
    )
    atomic.write_text(out / FILE, text)
    return out / FILE


def _changed(planned: Planned) -> Changed | None:
    """The family that is changed in a sweep, and the names of the changes."""
    plain = planned.config.get("changes")
    if not plain:
        return None
    try:
        names = [change.name for change in from_plain(list[Change], plain, "changes")]
        first, *_ = from_plain(list[Family], planned.config.get("families"), "families")
    except ValueError as error:
        raise ValueError(
            f"{PLAN} is damaged: {error}; run the sweep again, which writes it"
        ) from error
    return first.name, names


def table(
    results: Sequence[Result],
    *,
    reference: str | None,
    changed: Changed | None = None,
    drawings: Sequence[str] = (),
    left_out: Sequence[str] = (),
) -> str:
    """The whole page.

    Args:
        results: the finished trainings.
        reference: the family that the others are compared with, if there is one.
        changed: the family to which changes are made, and their names.
        drawings: names of PNG files.
        left_out: sentences on what is not trained, and why.
    """
    grid = lay_out(results)
    names: Sequence[str] = () if changed is None else changed[1]
    families = {family: shapes for family, shapes in grid.items() if family not in names}
    parts = ["# Loss against compute"]
    if not grid:
        parts.append("No training of the grid is finished yet.")
    elif changed is None or len(families) > 1:
        parts += [LEGEND, *comparisons(families, reference)]
    if grid and changed is not None:
        parts += changes(grid, *changed)
    parts.append(RUNS)
    parts += [f"![{Path(name).stem}]({name})" for name in drawings]
    if left_out:
        parts += ["Left out by the plan:", "\n".join(f"- {sentence}" for sentence in left_out)]
    if grid:
        parts += ["### The grid", _GRID, markdown.table(_grid_rows(grid))]
    laws = _law_rows(grid)
    if len(laws) > 1:
        parts += ["### The loss by size and tokens", _LAW, markdown.table(laws)]
    return "\n\n".join([*parts, *_tuning(results), *_machines(results)]) + "\n"


_GRID = """\
Parameters: those outside the embedding, and all. FLOPs: 10¹² of the whole training, executed, by
the paper's formula, and by PyTorch's counter. Bits per byte: the mean and the range over the seeds.
Seconds: of the training steps, at the speed that was measured before the first training."""


def _grid_rows(grid: Grid) -> list[list[str]]:
    heading = ["", "size", "parameters", "tokens", "tokens a parameter", "epochs", "executed"]
    heading += ["paper", "counter", "validation", "test", "seconds", "precision", "seeds"]
    rows = [heading]
    for family, shapes in grid.items():
        for shape, seeds in sorted(shapes.items()):
            for tokens in sorted({tokens for budgets in seeds.values() for tokens in budgets}):
                found = [seeds[seed][tokens] for seed in sorted(seeds) if tokens in seeds[seed]]
                rows.append([family, str(shape), *_grid_row(found)])
    return rows


def _grid_row(found: Sequence[Result]) -> list[str]:
    """Of the seeds of one training."""
    first = found[0]
    counted = first.flops.counted
    return [
        f"{first.parameters_outside_embedding:,}, {first.parameters:,}",
        millions(first.tokens),
        f"{first.tokens_per_parameter:.3g}",
        f"{first.epochs:.2f}",
        digits(first.flops.executed / 1e12),
        digits(first.flops.paper / 1e12),
        "" if counted is None else digits(counted / 1e12),
        _bits(result.validation for result in found),
        _bits(result.test for result in found),
        digits(float(np.mean([result.seconds for result in found]))),
        first.precision,
        str(len(found)),
    ]


def _bits(found: Iterable[Bits | None]) -> str:
    """Bits per byte over the seeds."""
    return over_seeds([bits.bits_per_byte for bits in found if bits is not None], ".4f")


_LAW = """\
E + A / Nᵃ + B / Tᵇ in bits per byte, of N parameters outside the embedding and T tokens: the least
squares of its logarithm over all trainings of a family. Error: the root of their mean."""


def _law_rows(grid: Grid) -> list[list[str]]:
    """A family each that has enough sizes and budgets."""
    rows = [["", "E", "A", "a", "B", "b", "error", "trainings"]]
    for family, shapes in grid.items():
        trained = (budgets for seeds in shapes.values() for budgets in seeds.values())
        found = [result for budgets in trained for result in budgets.values()]
        law = fit_joint(
            [result.parameters_outside_embedding for result in found],
            [result.tokens for result in found],
            [result.validation.bits_per_byte for result in found],
        )
        if law is not None:
            numbers = [law.floor, law.size_factor, law.size_exponent]
            numbers += [law.token_factor, law.token_exponent]
            error = f"{100 * law.error:.2f}%"
            rows.append([family, *(f"{x:.3g}" for x in numbers), error, str(len(found))])
    return rows


def _tuning(results: Sequence[Result]) -> list[str]:
    """What each trial reached, the chosen ones' figures in bold."""
    tried = sorted((r for r in results if r.phase == "tune"), key=lambda r: r.trial)
    if not tried:
        return []
    rows = [["", "trial", "bits per byte, validation", "tokens", "FLOPs executed, 10¹²"]]
    for family in dict.fromkeys(result.family for result in results):
        its = [result for result in tried if result.family == family]
        best = choose({result.trial: result for result in its})
        for result, words in zip(its, _told_apart(its), strict=True):
            bold = "**" if result.trial == best else ""
            bits = f"{bold}{result.validation.bits_per_byte:.4f}{bold}"
            flops = digits(result.flops.executed / 1e12)
            rows.append([family, words, bits, millions(result.tokens), flops])
    shapes = ", ".join(map(str, sorted({Shape(r.width, r.layers) for r in tried})))
    seeds = sorted({result.seed for result in tried})
    intro = (
        f"Trials at {shapes}, {plural(len(seeds), 'seed')} {', '.join(map(str, seeds))}. The "
        "chosen ones, whose figures are in bold, stand for their families in the grid:"
    )
    return ["### Tuning", intro, markdown.table(rows)]


def _told_apart(results: Sequence[Result]) -> list[str]:
    """The options of each in which they differ."""
    flat = [flatten(result.settings) for result in results]
    names = [name for name in dict.fromkeys(n for one in flat for n in one) if name != "out"]
    values: dict[str, list[Any]] = {name: [one.get(name) for one in flat] for name in names}
    telling = [name for name in names if any(v != values[name][0] for v in values[name])]
    return [", ".join(f"{name}={values[name][i]}" for name in telling) for i in range(len(flat))]


def _machines(results: Sequence[Result]) -> list[str]:
    """Where the trainings ran, and with what."""
    lines = dict.fromkeys(
        f"- {result.machine.get('processor')}, {result.machine.get('cores')} cores; "
        f"{result.threads} {plural(result.threads, 'thread')} a training; "
        + ", ".join(f"{name} {version}" for name, version in result.versions.items())
        for result in results
    )
    return ["### Where it ran", "\n".join(lines)] if lines else []


def _draw(grid: Grid, out: Path) -> list[Path]:
    """The losses over the executed FLOPs and over the seconds, where there are any."""
    drawn = []
    for name, measure, xlabel in (
        ("loss-over-flops.png", "executed FLOPs", "executed FLOPs of the training"),
        ("loss-over-seconds.png", "seconds", "seconds of training"),
    ):
        panels = _panels(grid, MEASURES[measure])
        if panels:
            ylabel = "bits per byte, validation"
            drawn.append(draw_scaling(panels, out / name, xlabel=xlabel, ylabel=ylabel))
    return drawn


def _panels(grid: Grid, measure: Measure) -> dict[str, dict[str, Measured]]:
    """By size and family; the curves are those of the mean over the seeds."""
    panels: dict[str, dict[str, Measured]] = {}
    for shape in sorted({shape for shapes in grid.values() for shape in shapes}):
        for family, shapes in grid.items():
            points = runs(shapes.get(shape, {}), measure)
            if not points:
                continue
            curves: dict[str, list[tuple[float, float]]] = {
                form: [(x, curve.loss(x)) for x in np.geomspace(curve.least, curve.most, 33)]
                for form, curve in fit_curves(*averaged(points, list(points))).items()
            }
            measured = [point for budgets in points.values() for point in budgets.values()]
            panels.setdefault(str(shape), {})[family] = Measured(measured, curves)
    return panels
