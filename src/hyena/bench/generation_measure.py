"""One row of the benchmark of generation, measured in this process."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from hyena.bench.generation_memory import measure_in_fresh_process
from hyena.bench.generation_mixers import growth_courses, mixer_courses
from hyena.bench.generation_models import model_courses, need
from hyena.bench.generation_positions import position_courses
from hyena.bench.generation_rows import Row
from hyena.bench.generation_timing import Course, time_tokens
from hyena.bench.memory import available

Result = dict[str, Any]
"""What became of a row, as it is written to JSON."""

_SHARE = 0.8  # of the memory that is available
_COURSES = {
    "planned": mixer_courses,
    "grown": mixer_courses,
    "growth": growth_courses,
    "positions": position_courses,
}


def measure(row: Row, *, seconds: float, repeats: int | None = None) -> Result:
    """Times, errors and memory of a row's contenders.

    The outputs of the tokens that are timed are compared with the full forward pass in float64,
    and if one contender is too far off nothing is reported of the row. Whole models are compared
    on a short text before they are timed.

    Args: the row; the budget and the repetitions, as in `hyena.bench.generation_timing`; none takes
        the row's repetitions.
    Returns: "row"; "times", "errors", "held" (bytes of the state) by contender, of whole models
        "facts"; "memory" of a row of memory; "skipped", why a contender was left out; or instead
        "failed", one line.
    """
    record: Result = {"row": asdict(row), "skipped": {}}
    try:
        if row.kind == "memory":
            found = {name: measure_in_fresh_process(row, name) for name in row.contenders}
            failed = [f"{name}: {x['failed']}" for name, x in found.items() if "failed" in x]
            return {**record, **({"failed": failed[0]} if failed else {"memory": found})}
        row = replace(row, repeats=repeats or row.repeats)
        if row.kind in _COURSES:
            return {**record, **_timed(row, _COURSES[row.kind](row), seconds)}
        names = tuple(name for name in row.contenders if not _left_out(row, name, record))
        courses, facts = model_courses(row, names)
        found = _timed(row, courses, seconds)
        errors = {name: x.pop("error") for name, x in facts.items()}
        return {**record, **found, "errors": errors, "facts": facts}
    except (ValueError, RuntimeError, MemoryError) as problem:
        return {**record, "failed": f"{type(problem).__name__}: {' '.join(str(problem).split())}"}


def _timed(row: Row, courses: Mapping[str, Course], seconds: float) -> Result:
    times, outputs = time_tokens(courses, repeats=row.repeats, seconds=seconds)
    errors = {}
    for name, got in outputs.items():
        check, tolerance = courses[name].check, courses[name].tolerance
        assert check is not None
        errors[name] = check(got)
        if not errors[name] <= tolerance:  # nor if it is a NaN
            return {
                "errors": errors,
                "failed": f"{name}: its tokens differ from the full forward pass in float64 by "
                f"{errors[name]:.1e}, more than {tolerance:.0e}; the row is not reported",
            }
    return {
        "times": {name: found._asdict() for name, found in times.items()},
        "errors": errors,
        "held": {name: x.held for name, x in courses.items() if x.held is not None},
    }


def _left_out(row: Row, name: str, record: Result) -> bool:
    room = available()
    bytes = need(row, name)
    if room is None or bytes <= _SHARE * room:
        return False
    why = f"may need {bytes / 2**30:.1f} GiB, and {room / 2**30:.1f} GiB are free"
    record["skipped"][name] = why
    return True
