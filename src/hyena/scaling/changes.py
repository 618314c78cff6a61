"""What each change to a family does to its perplexity and its compute, in Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hyena.files import markdown
from hyena.scaling.grid import Grid, Shape, millions, over_seeds
from hyena.scaling.record import Bits, Result

LEGEND = """\
Each row is trained as the family is, but for one change, on the same tokens in the same order.
Perplexity is that of a token of the validation documents. Changes are in %: the mean over the seeds
that both have, and in brackets the range. In bold: perplexity moves by more than 1%, and by every
seed in the same direction. FLOPs are those executed; seconds are those of the training steps
at the speed that was measured before the first training."""

_TELLING = 1.0  # per cent

Budgets = dict[tuple[Shape, int], dict[int, Result]]
"""The trainings of a family by size and tokens, and then by seed."""


def changes(grid: Grid, base: str, names: Sequence[str]) -> list[str]:
    """Paragraphs and a table: a row for each change at each size and budget.

    Args:
        grid: the finished trainings.
        base: the family that is changed.
        names: of the changes, in order.
    """
    parts = [f"## Changes to {base}"]
    before = _by_budget(grid, base)
    if not before:
        return [*parts, f"No training of {base}, to which others are compared, is finished yet."]
    changed = {name: _by_budget(grid, name) for name in names}
    rows = [["", "size", "tokens", "parameters", "perplexity", "change"]]
    rows[0] += ["change on the test documents", "FLOPs", "seconds", "seeds"]
    for place, seeds in sorted(before.items()):
        rows.append(_row(base, place, seeds))
        for name, found in changed.items():
            if place in found:
                rows.append(_row(name, place, found[place], seeds))
    return [*parts, LEGEND, markdown.table(rows)]


def _by_budget(grid: Grid, family: str) -> Budgets:
    found: Budgets = {}
    for shape, seeds in grid.get(family, {}).items():
        for seed, budgets in seeds.items():
            for tokens, result in budgets.items():
                found.setdefault((shape, tokens), {})[seed] = result
    return found


def _row(
    name: str,
    place: tuple[Shape, int],
    found: dict[int, Result],
    before: dict[int, Result] | None = None,
) -> list[str]:
    """Of the seeds of a training, and those of the unchanged one."""
    (shape, tokens), results = place, [found[seed] for seed in sorted(found)]
    perplexities = [math.exp(result.validation.nats_per_token) for result in results]
    row = [name, str(shape), millions(tokens), f"{results[0].parameters:,}"]
    row.append(over_seeds(perplexities, ".2f"))
    if before is None:
        return [*row, "", "", "", "", str(len(results))]
    pairs = [(found[seed], before[seed]) for seed in sorted(found.keys() & before.keys())]
    moved = [_moved(one.validation, other.validation) for one, other in pairs]
    tests = [_moved(one.test, other.test) for one, other in pairs if one.test and other.test]
    flops = [100 * (one.flops.executed / other.flops.executed - 1) for one, other in pairs]
    seconds = [_slower(one, other) for one, other in pairs]
    change = over_seeds(moved, "+.1f")
    if moved and (min(moved) > _TELLING or max(moved) < -_TELLING):
        change = f"**{change}**"
    of_time = [over_seeds(flops, "+.1f"), over_seeds(seconds, "+.0f")]
    return [*row, change, over_seeds(tests, "+.1f"), *of_time, str(len(pairs))]


def _moved(now: Bits, before: Bits) -> float:
    """What the perplexity of a token has grown by, in %."""
    return 100 * math.expm1(now.nats_per_token - before.nats_per_token)


def _slower(now: Result, before: Result) -> float:
    return 100 * (now.seconds / before.seconds - 1)
