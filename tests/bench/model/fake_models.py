"""Results of whole models as a run would leave them, easy to reckon with."""

from typing import Any

from hyena.bench.model.cases import Case

GIB = 1 << 30


def timing(median: float) -> dict[str, float]:
    return {
        "median": median,
        "lower": 0.9 * median,
        "upper": 1.1 * median,
        "samples": 3,
        "calls": 1,
    }


def result(case: Case, **seconds: float) -> dict[str, Any]:
    """What a case's file holds: 1 s and 2 GiB, 1 beyond what was there, unless said otherwise."""
    names = case.contenders
    return {
        "row": case.record(),
        "skipped": {},
        "times": {name: timing(seconds.get(name, 1.0)) for name in names},
        "peak": dict.fromkeys(names, 2 * GIB),
        "added": dict.fromkeys(names, GIB),
    }
