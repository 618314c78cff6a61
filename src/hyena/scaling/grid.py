"""The finished trainings of a scaling sweep by family, size, seed and budget; and how their numbers
are written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from hyena.scaling.record import Result
from hyena.scaling.saving import Runs


class Shape(NamedTuple):
    """A size of the grid."""

    width: int
    layers: int

    def __str__(self) -> str:
        return f"{self.width} × {self.layers}"


Seeds = dict[int, dict[int, Result]]
"""The trainings of a family at one size, by seed and tokens."""
Grid = dict[str, dict[Shape, Seeds]]
"""By family and size."""
Measure = Callable[[Result], float | None]

MEASURES: dict[str, Measure] = {
    "executed FLOPs": lambda result: result.flops.executed,
    "FLOPs by the paper's formula": lambda result: result.flops.paper,
    "FLOPs by PyTorch's counter": lambda result: result.flops.counted,
    "tokens": lambda result: result.tokens,
    "seconds": lambda result: result.seconds,
}
"""What a training takes; None where that is not known."""


def lay_out(results: Sequence[Result]) -> Grid:
    """The trainings of the phase "grid"."""
    grid: Grid = {}
    for result in results:
        if result.phase == "grid":
            shape = Shape(result.width, result.layers)
            seeds = grid.setdefault(result.family, {}).setdefault(shape, {})
            seeds.setdefault(result.seed, {})[result.tokens] = result
    return grid


def runs(seeds: Mapping[int, Mapping[int, Result]], measure: Measure) -> Runs | None:
    """Compute and validation bits per byte of each training; None if one has no such measure."""
    points: dict[int, dict[int, tuple[float, float]]] = {}
    for seed, budgets in seeds.items():
        for tokens, result in budgets.items():
            compute = measure(result)
            if compute is None:
                return None
            points.setdefault(seed, {})[tokens] = (compute, result.validation.bits_per_byte)
    return points


def digits(value: float) -> str:
    """A positive number with three digits, or all that are before the point."""
    return f"{value:.3g}" if value < 999.5 else f"{value:,.0f}"


def millions(tokens: int) -> str:
    """A number of tokens."""
    return f"{digits(tokens / 1e6)}M"


def over_seeds(values: Sequence[float], form: str) -> str:
    """The mean, and the range where they differ; nothing of none."""
    if not values:
        return ""
    shown = [f"{x:{form}}" for x in (float(np.mean(values)), min(values), max(values))]
    mean, low, high = (text.replace("-", "−") for text in shown)
    return mean if low == high else f"{mean} ({low} to {high})"
