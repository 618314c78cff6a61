"""What each family saves over one of them, in Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hyena.files import markdown
from hyena.scaling.grid import MEASURES, Grid, Seeds, Shape, digits, millions, over_seeds, runs
from hyena.scaling.record import Result
from hyena.scaling.saving import Saving, Whose, find_saving, fit_trend

Savings = dict[tuple[Shape, Whose, str], Saving]
"""By size, whose final loss they are at, and the measure."""

_WHOSE: tuple[Whose, ...] = ("theirs", "ours")
_TREND = ("executed FLOPs", "FLOPs by the paper's formula")
_PAPER = 0.2
"""What the paper saves at length 2,048 (Poli et al. 2023, arXiv:2302.10866, abstract)."""

LEGEND = """\
Losses are bits per byte on the validation documents. At each size a curve over the budgets is
fitted to each family, in three forms: a power law of the compute, the same with a floor, and a line
in its logarithm. A saving is the share of compute that a family takes less than the other to reach
the final loss that is named: the median of the three forms, and in brackets the interval over seeds
and forms. Curves are read within the measured range only; where the answer lies beyond it, that is
said instead. † One family or both have a single seed: the interval is over the forms, and over the
seeds of a family that has several."""


def find_reference(results: Sequence[Result], asked: str | None = None) -> str | None:
    """The family that the others are compared with: the one that is asked for, or else the first
    one whose layers are all attention.

    Returns: None if none is asked for, and there is no such family.
    Raises: ValueError if no training is of the family that is asked for.
    """
    if asked is not None:
        families = dict.fromkeys(result.family for result in results)
        if asked not in families:
            raise ValueError(
                f"reference: no finished training is of the family {asked!r:.40}; expected one of "
                f"{', '.join(families) or 'those to come'}"
            )
        return asked
    for result in results:
        mixers = str(result.settings["model"]["mixers"]).split(",")
        if {name.strip() for name in mixers} == {"attention"}:
            return result.family
    return None


def comparisons(grid: Grid, reference: str | None) -> list[str]:
    """Paragraphs and tables: a section for each family but the reference."""
    if reference is None:
        return ["No family has attention in all layers; name one to compare with by --reference."]
    if reference not in grid:
        return [f"No training of {reference}, with which others are compared, is finished yet."]
    others = [family for family in grid if family != reference]
    return [part for family in others for part in _comparison(grid, family, reference)]


def _comparison(grid: Grid, family: str, reference: str) -> list[str]:
    """What a family saves over the reference, and what it reaches by equal tokens."""
    ours, theirs = grid[family], grid[reference]
    shapes = sorted(ours.keys() & theirs.keys())
    found: Savings = {}
    for shape in shapes:
        for name, measure in MEASURES.items():
            mine, other = runs(ours[shape], measure), runs(theirs[shape], measure)
            for at in _WHOSE:
                saved = find_saving(mine, other, at=at) if mine and other else None
                if saved is not None:
                    found[shape, at, name] = saved
    parts = [f"## {family} against {reference}"]
    if found:
        measures = [name for name in MEASURES if any(key[2] == name for key in found)]
        rows = [["size", "at the final loss of", "which is", *measures]]
        for shape in shapes:
            for at in _WHOSE:
                cells = [_cell(found.get((shape, at, name))) for name in measures]
                whose, ended = (reference, theirs) if at == "theirs" else (family, ours)
                if any(cells):
                    rows.append([str(shape), whose, _final(ended[shape]), *cells])
        parts += [f"What {family} saves:", markdown.table(rows)]
        parts.append("Over the widths, of each size the first saving within the measured range:")
        parts.append("\n".join(_trend(found, name) for name in _TREND))
    else:
        parts.append("At no size both are there and one has two budgets, so no curve compares.")
    equal = _at_equal_tokens(ours, theirs, shapes)
    if len(equal) > 1:
        parts += [
            f"Bits per byte of {family} less those of {reference} after as many tokens, the mean "
            "and the range over the seeds that both have; below zero it is the better one:",
            markdown.table(equal),
        ]
    return parts


def _final(seeds: Seeds) -> str:
    """The loss after the largest budget, as measured: the mean over the seeds."""
    largest = max(tokens for budgets in seeds.values() for tokens in budgets)
    ends = [budgets[largest] for budgets in seeds.values() if largest in budgets]
    loss = float(np.mean([result.validation.bits_per_byte for result in ends]))
    return f"{loss:.4f} after {millions(largest)} tokens"


def _cell(found: Saving | None) -> str:
    """A saving with its interval."""
    if found is None:
        return ""

    def shown(share: float) -> str:
        if math.isinf(share):
            bound = found.least if share < 0 else found.most
            return f"{'under' if share < 0 else 'over'} {_percent(bound)}"
        return _percent(share)

    mark = "†" if found.seeds == 1 else ""
    if math.isfinite(found.value):
        return f"{shown(found.value)}{mark} ({shown(found.low)} to {shown(found.high)})"
    text = f"{shown(found.value)}, beyond the measured range{mark}"
    if found.low == found.high:
        return text
    return f"{text} ({shown(found.low)} to {shown(found.high)})"


def _percent(share: float, unit: str = "%") -> str:
    """A share of 1; its sign is as long as a digit, and zero has none."""
    return f"{round(100 * share, 1) + 0.0:.1f}{unit}".replace("-", "−")


def _trend(found: Savings, name: str) -> str:
    """What a doubling of the width adds to a saving, and where it would be the paper's."""
    within: dict[Shape, Saving] = {}
    for (shape, _, measure), saved in found.items():  # theirs of a size comes before ours
        if measure == name and math.isfinite(saved.value):
            within.setdefault(shape, saved)
    trend = fit_trend([shape.width for shape in within], list(within.values()))
    start = f"- {name}: "
    if trend is None:
        return f"{start}no trend, since fewer than two widths have a saving in the measured range."
    ends = f"{_percent(trend.low, '')} to {_percent(trend.high, '')}"
    added = _percent(trend.per_doubling, " percentage points")
    text = f"{start}a doubling of the width adds {added} ({ends} over seeds and forms)"
    width, paper = trend.width_at(_PAPER), _percent(_PAPER)
    if width is None:
        text += f", so that the line never comes to {paper}"
    elif trend.narrowest <= width <= trend.widest:
        text += f"; the line is at {paper} at a width of {digits(width)}"
    else:
        measured = f"{trend.narrowest} to {trend.widest}"
        text += f"; extrapolated from widths of {measured}, it is at {paper} at {digits(width)}"
    if trend.low <= 0 <= trend.high:
        text += ". The interval holds zero: these widths show no trend"
    return f"{text}."


def _at_equal_tokens(
    ours: dict[Shape, Seeds], theirs: dict[Shape, Seeds], shapes: Sequence[Shape]
) -> list[list[str]]:
    """Differences of the bits per byte at each size and budget that both have."""
    rows = [["size", "tokens", "tokens a parameter", "validation", "test", "seeds"]]
    for shape in shapes:
        pairs: dict[int, list[tuple[Result, Result]]] = {}
        for seed in sorted(ours[shape].keys() & theirs[shape].keys()):
            mine, other = ours[shape][seed], theirs[shape][seed]
            for tokens in mine.keys() & other.keys():
                pairs.setdefault(tokens, []).append((mine[tokens], other[tokens]))
        for tokens, both in sorted(pairs.items()):
            validation = [a.validation.bits_per_byte - b.validation.bits_per_byte for a, b in both]
            tests = [(a.test, b.test) for a, b in both]
            test = [a.bits_per_byte - b.bits_per_byte for a, b in tests if a and b]
            rows.append(
                [
                    str(shape),
                    millions(tokens),
                    f"{both[0][0].tokens_per_parameter:.3g}",
                    over_seeds(validation, "+.4f"),
                    over_seeds(test, "+.4f"),
                    str(len(both)),
                ]
            )
    return rows
