"""Results of genomics as a run would leave them, easy to reckon with."""

from dataclasses import asdict
from typing import Any

from hyena.bench import convolution, generation
from hyena.bench.genomes.cases import Case

GIB = 1 << 30
# Seconds of a contender; of a name that is not here, 1.
SECONDS = {"public": 5.0, "public_bf16": 4.0, "conv1d": 3.5, "ours_bf16": 0.8}
PEAKS = {"public": 10 * GIB}  # of others, 2 GiB


def timing(median: float) -> dict[str, float]:
    return {
        "median": median,
        "lower": 0.9 * median,
        "upper": 1.1 * median,
        "samples": 3,
        "calls": 1,
    }


def result(case: Case) -> dict[str, Any]:
    """What a case's file holds."""
    names = case.contenders
    times = {name: timing(SECONDS.get(name, 1.0)) for name in names}
    if isinstance(case, convolution.cases.Case):
        modes = {name: case.mode(name) for name in names}
        errors = {name: {"y": 1e-7} for name in names}
        return {
            "cell": asdict(case),
            "modes": modes,
            "skipped": {},
            "errors": errors,
            "times": times,
        }
    if isinstance(case, generation.cases.Case):
        each = {"tokens": case.tokens, "p99": 2.0, "worst": 3.0}
        return {
            "row": asdict(case),
            "skipped": {},
            "times": {name: {**its, **each} for name, its in times.items()},
            "errors": dict.fromkeys(names, 1e-6),
            "held": dict.fromkeys(names, 2**20),
            "state_errors": {name: 1e-7 * i for i, name in enumerate(names, 1)},
        }
    made = {
        "row": case.record(),
        "builds": {"this": {"hyena": "0.1"}},
        "skipped": {},
        "times": times,
        "peak": {name: PEAKS.get(name, 2 * GIB) for name in names},
        "added": dict.fromkeys(names, GIB),
    }
    if case.truth is not None:
        made["errors"] = dict.fromkeys(names, 1e-6)
        made["first"] = {**dict.fromkeys(names, -1.25), "truth": -1.5}
    return made


def results(cases: list[Case]) -> dict[str, dict[str, Any]]:
    return {case.key: result(case) for case in cases}
