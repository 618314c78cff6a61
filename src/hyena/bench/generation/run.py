"""Cases of generation measured in this process, and what is said of them all."""

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from hyena.bench.folder import Result
from hyena.bench.generation.cases import BASELINES, Case, Kind
from hyena.bench.generation.mixers import mixer_courses
from hyena.bench.generation.models import model_courses, need
from hyena.bench.generation.modes import modal_courses
from hyena.bench.generation.positions import position_courses
from hyena.bench.generation.tokens import Course, time_tokens
from hyena.bench.generation.weights import why_not
from hyena.bench.memory import too_large
from hyena.ops.stepping.online import BLOCK

_TURNS: dict[Kind, int] = {"weights": 8, "quantized": 8, "modes": 64}
"""Tokens of a turn where contenders are as alike as can be, or one is the limit of another: the
machine's moods are to meet them alike."""
SECONDS = 6.0
"""Budget of a contender of a case that need not do all its tokens."""

_LAYERS: dict[Kind, Callable[[Case], dict[str, Course]]] = {
    "planned": mixer_courses,
    "grown": mixer_courses,
    "growth": mixer_courses,
    "positions": position_courses,
    "modes": modal_courses,
}


def setting(seconds: float, repeats: int | None) -> dict[str, Any]:
    """What the results of a folder have in common, besides what all benchmarks say."""
    given = {
        name: value
        for name, value in os.environ.items()
        if name in ("LD_PRELOAD", "GLIBC_TUNABLES") or name.startswith("MALLOC_")
    }
    allocator = " ".join(f"{name}={value}" for name, value in sorted(given.items()))
    return {
        "allocator": allocator or "the system's default",
        "block": BLOCK,
        "seconds": seconds,
        "repeats": repeats or "those of the rows",
    }


def measure(case: Case, *, seconds: float, repeats: int | None = None) -> Result:
    """Times, errors and states of a case's contenders.

    The outputs of the tokens that are timed are compared with the full forward pass in float64. A
    baseline that is too far off is left out, and if one of ours is nothing is reported of the case.
    Whole models are compared on a short text before they are timed.

    Args: the case; the budget and the repetitions, as in `hyena.bench.generation.tokens`; none
        takes the case's repetitions.
    Returns: "row", the case; "times", "errors", "held" (bytes of the state) by contender, of whole
        models "facts", where it is known "state_errors"; "skipped", why a contender was left out;
        or instead "failed", one line.
    """
    record: Result = {"row": asdict(case), "skipped": {}}
    try:
        case = replace(case, repeats=repeats or case.repeats)
        if case.kind in _LAYERS:
            return {**record, **_timed(case, _LAYERS[case.kind](case), seconds)}
        for name in case.contenders:
            why = why_not(name) or too_large(need(case, name))
            if why:
                record["skipped"][name] = why
        names = tuple(name for name in case.contenders if name not in record["skipped"])
        courses, facts, wrong = model_courses(case, names)
        record["skipped"] |= wrong
        found = _timed(case, courses, seconds)
        record["skipped"] |= found.pop("skipped", {})
        errors = {name: x.pop("error") for name, x in facts.items()}
        return {**record, **found, "errors": errors, "facts": facts}
    except (ValueError, RuntimeError, MemoryError) as problem:
        return {**record, "failed": f"{type(problem).__name__}: {' '.join(str(problem).split())}"}


def _timed(case: Case, courses: Mapping[str, Course], seconds: float) -> Result:
    turn = _TURNS.get(case.kind)
    times, outputs = time_tokens(courses, repeats=case.repeats, seconds=seconds, turn=turn)
    errors, skipped = {}, {}
    for name, got in outputs.items():
        check, tolerance = courses[name].check, courses[name].tolerance
        assert check is not None
        errors[name] = check(got)
        if errors[name] <= tolerance:  # which a NaN is not
            continue
        skipped[name] = (
            "its tokens differ from the full forward pass in float64 by "
            f"{errors[name]:.1e}, more than {tolerance:.0e}"
        )
        if name not in BASELINES:
            failed = f"{name}: {skipped[name]}; the row is not reported"
            return {"errors": errors, "failed": failed}
    kept = {name: x for name, x in courses.items() if name not in skipped}
    found: Result = {
        "times": {name: times[name]._asdict() for name in kept},
        "errors": errors,
        "held": {name: x.held for name, x in kept.items() if x.held is not None},
        "skipped": skipped,
    }
    states = {name: x.state_error for name, x in kept.items() if x.state_error is not None}
    return {**found, "state_errors": states} if states else found
