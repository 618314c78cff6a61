"""What one family saves over another, with its interval, and how that changes with the width.

Numbers in, numbers out, as in `hyena.scaling.fit`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Literal, NamedTuple

import numpy as np

from hyena.scaling.fit import Array, Curve, Form, fit_curves

Runs = Mapping[int, Mapping[int, tuple[float, float]]]
"""The trainings of a family at one size: compute and final loss, by seed and by budget."""
Whose = Literal["theirs", "ours"]
"""Whose final loss two families are compared at."""

RESAMPLES = 1000
_TAIL = 0.025
"""The share of the resamples that lies outside an interval on either side."""
_FARTHEST = 30
"""Doublings of the width beyond which a trend says nothing."""


@dataclass(frozen=True)
class Saving:
    """The share of compute that one family saves over another at the same loss.

    Below zero it takes more. −∞ and ∞ are beyond the measured range: less than ``least``, or more
    than ``most``.

    Attributes:
        value: the median over the forms of the curves, all seeds together; of two, the lower.
        low, high: its interval, see `find_saving`.
        least, most: the savings at the ends of the curve that is read.
        seeds: how many of them the family with fewer has.
        draws: what each form gives for each resample; for the first of them all seeds are taken.
    """

    value: float
    low: float
    high: float
    least: float
    most: float
    seeds: int
    draws: Mapping[Form, Sequence[float]] = field(repr=False)

    @property
    def by_form(self) -> dict[Form, float]:
        """What each form gives, all seeds together."""
        return {form: found[0] for form, found in self.draws.items()}


class _Drawn(NamedTuple):
    """A family with some of its seeds: its curves, and where its largest budget ends."""

    curves: Mapping[Form, Curve]
    compute: float
    loss: float

    def final_loss(self, form: Form) -> float:
        """That of the curve at the largest budget; as measured where there is no curve."""
        return self.curves[form].loss(self.compute) if form in self.curves else self.loss


def find_saving(ours: Runs, theirs: Runs, *, at: Whose) -> Saving | None:
    """What "ours" saves over "theirs" at the final loss of one of them.

    The final loss is that of the family's curve at its largest budget. The other family's curve is
    read where it has this loss: within its measured range, never beyond. At their final loss, C of
    our curve against C* of their largest budget saves 1 − C / C*; at ours, C* of our largest budget
    against C of their curve saves 1 − C* / C. Both curves have the same form, so that what a form
    misses in both alike falls away. A family with a single budget has no curve, and its final loss
    is what was measured.

    The interval is over seeds and forms. A resample draws from each family, each on its own, as
    many seeds as it has, with replacement; a seed comes with all its budgets, and at each budget
    the mean over the seeds drawn is taken. For each form the interval goes from the 2.5% to the
    97.5% point of `RESAMPLES` resamples, and the whole one from the lowest to the highest end of
    all forms. With one seed of each family it is the range of the forms alone. With two seeds it is
    the range of all that can be drawn, which is narrower than what would hold 95% of other seeds.

    Returns: None if the family whose curve is read has fewer than two budgets.
    Raises: ValueError if a family has no training, or numbers are not all positive and finite.
    """
    if not ours or not theirs:
        whose = "theirs" if ours else "ours"
        raise ValueError(f"find_saving: expected trainings of both families, got none of {whose}")
    read, ended = (ours, theirs) if at == "theirs" else (theirs, ours)
    of_read, of_ended = cache(lambda s: _drawn(read, s)), cache(lambda s: _drawn(ended, s))
    draws: dict[Form, list[float]] = {}
    for first, second in _resamples(sorted(read), sorted(ended)):
        reader, end = of_read(first), of_ended(second)
        for form, curve in reader.curves.items():
            found = _saved(curve.reach(end.final_loss(form)), end.compute, at)
            draws.setdefault(form, []).append(found)
    everyone, end = of_read(tuple(sorted(read))), of_ended(tuple(sorted(ended)))
    if not everyone.curves:
        return None
    draws = {form: draws[form] for form in everyone.curves}
    value = sorted(found[0] for found in draws.values())[(len(draws) - 1) // 2]
    low, high = _interval(list(draws.values()))
    curve = everyone.curves["line in log compute"]
    ends = [_saved(compute, end.compute, at) for compute in (curve.least, curve.most)]
    seeds = min(len(ours), len(theirs))
    return Saving(value, min(low, value), max(high, value), min(ends), max(ends), seeds, draws)


def _saved(compute: float, largest: float, at: Whose) -> float:
    """By a compute on the curve that is read, against the other family's largest budget."""
    if math.isinf(compute):
        return -compute if at == "theirs" else compute
    return 1 - compute / largest if at == "theirs" else 1 - largest / compute


def _drawn(runs: Runs, seeds: Sequence[int]) -> _Drawn:
    compute, losses = averaged(runs, seeds)
    return _Drawn(fit_curves(compute, losses), float(compute[-1]), float(losses[-1]))


def averaged(runs: Runs, seeds: Sequence[int]) -> tuple[Array, Array]:
    """Compute and loss at each budget that a seed has, ascending: means over the seeds, of which
    one may be there more than once."""
    points: dict[int, list[tuple[float, float]]] = {}
    for seed in seeds:
        for budget, point in runs[seed].items():
            points.setdefault(budget, []).append(point)
    means = np.array([np.mean(points[budget], axis=0) for budget in sorted(points)])
    return means[:, 0], means[:, 1]


def _resamples(
    read: Sequence[int], ended: Sequence[int]
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """All seeds of both families, then those that are drawn, always the same ones."""
    yield tuple(read), tuple(ended)
    if len(read) == len(ended) == 1:
        return
    generator = np.random.default_rng(0)
    for _ in range(RESAMPLES):
        drawn = (generator.choice(seeds, len(seeds)).tolist() for seeds in (read, ended))
        first, second = (tuple(sorted(seeds)) for seeds in drawn)
        yield first, second


def _interval(draws: Sequence[Sequence[float]]) -> tuple[float, float]:
    """The lowest and the highest end over the forms; infinities are beyond all numbers."""
    ordered = [sorted(found) for found in draws]
    outside = [int(_TAIL * len(found)) for found in ordered]
    low = min(found[skip] for found, skip in zip(ordered, outside, strict=True))
    high = max(found[-1 - skip] for found, skip in zip(ordered, outside, strict=True))
    return low, high


@dataclass(frozen=True)
class Trend:
    """A straight line of the saving over the logarithm of the width.

    Attributes:
        per_doubling: what a doubling of the width adds to the saving.
        low, high: its interval over seeds and forms, as in `find_saving`.
        width: the geometric mean of the widths.
        level: the line's saving there.
        narrowest, widest: the widths that were measured.
    """

    per_doubling: float
    low: float
    high: float
    width: float
    level: float
    narrowest: int
    widest: int

    def width_at(self, share: float) -> float | None:
        """The width at which the line has this saving, extrapolated outside the measured widths.

        Returns: None if the line is level, or has it only so far away that it says nothing.
        """
        far = _FARTHEST * abs(self.per_doubling)
        if self.per_doubling == 0 or abs(share - self.level) > far:
            return None
        return float(self.width * 2 ** ((share - self.level) / self.per_doubling))


def fit_trend(widths: Sequence[int], savings: Sequence[Saving]) -> Trend | None:
    """The line of least squares through the savings that lie within the measured range.

    For the interval of its slope the line is fitted to the resamples of the savings, each form on
    its own; sizes are resampled apart from each other, and what a resample has beyond the measured
    range is taken at the range's end.

    Returns: None if fewer than two different widths have such a saving.
    """
    pairs = zip(widths, savings, strict=True)
    within = [(width, saving) for width, saving in pairs if math.isfinite(saving.value)]
    if len({width for width, _ in within}) < 2:
        return None
    x = np.log2([width for width, _ in within])
    middle = float(x.mean())
    weights = (x - middle) / np.square(x - middle).sum()  # of the savings in the slope
    values = np.array([saving.value for _, saving in within])
    generator = np.random.default_rng(0)
    slopes = []
    for form in dict.fromkeys(form for _, saving in within for form in saving.draws):
        if all(form in saving.draws for _, saving in within):
            rows = [np.clip(s.draws[form], s.least, s.most) for _, s in within]
            rows = [generator.permutation(np.resize(row, RESAMPLES)) for row in rows]
            slopes.append((weights @ np.stack(rows)).tolist())
    slope = float(weights @ values)
    low, high = _interval(slopes)
    return Trend(
        per_doubling=slope,
        low=min(low, slope),
        high=max(high, slope),
        width=2**middle,
        level=float(values.mean()),
        narrowest=min(width for width, _ in within),
        widest=max(width for width, _ in within),
    )
