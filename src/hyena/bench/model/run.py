"""A case measured in processes of its own, of this build and of an older one, in turns."""

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from math import dist, hypot
from pathlib import Path
from typing import Any

from hyena.bench.allocator import environment
from hyena.bench.folder import Result
from hyena.bench.model.cases import TODAY, Case
from hyena.bench.timing import Timing, quartiles, rounds

_TOLERANCE, _BF16_TOLERANCE = 1e-3, 5e-2  # relative L2 differences of the builds' numbers

Ask = Callable[[str, Mapping[str, Any]], dict[str, Any]]
"""What a Python answers to a request; see `hyena.bench.model.work`."""


def ask(python: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """The answer of a fresh process; if it died, "failed" says so."""
    done = subprocess.run(
        [python, str(Path(__file__).with_name("work.py"))],
        input=json.dumps(request),
        stdout=subprocess.PIPE,
        text=True,
        env=environment("default"),
    )
    if done.returncode == 0:
        return dict(json.loads(done.stdout))
    code = done.returncode
    cause = f"killed by signal {-code}, perhaps for want of memory" if code < 0 else f"{code}"
    return {"failed": f"its process ended: {cause}"}


def measure(
    case: Case,
    *,
    threads: int,
    old: str | None = None,
    repeats: int | None = None,
    ask: Ask = ask,
) -> Result:
    """Times and memory of a case's contenders. What two builds compute alike is compared first.

    Args: the case; threads; the Python of the older build; processes of each contender, none takes
        the case's number; who answers.
    Returns: "row", the case; "times", "peak" and "added" (bytes: of the process, and beyond what it
        had before the calls) by contender; "builds", what `hyena.bench.model.work.build` says of
        "this" and of the "older" one; "skipped", why one was left out; or instead "failed".
    """
    record: Result = {"row": case.record(), "builds": {}, "skipped": {}}
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in case.contenders}
    for name in rounds(dict.fromkeys(case.contenders, repeats or case.repeats)):
        if name in record["skipped"]:
            continue
        work = case.works[name.removesuffix(TODAY)]
        python = sys.executable if name in case.works else str(old)
        answer = ask(python, {**asdict(work), "threads": threads})
        if "failed" in answer:
            record["skipped"][name] = answer["failed"]
            del answers[name]
        else:
            answers[name].append(answer)
            record["builds"]["this" if name in case.works else "older"] = answer["build"]
    if not answers:
        return {**record, "failed": next(iter(record["skipped"].values()))}
    for name in case.today:
        if {name, name + TODAY} <= set(answers):
            apart = _apart(answers[name][0]["numbers"], answers[name + TODAY][0]["numbers"])
            tolerance = _BF16_TOLERANCE if case.works[name].bf16 else _TOLERANCE
            if not apart <= tolerance:  # nor if it is a NaN
                why = f"{name}: its numbers differ from the older build's by {apart:.1e}"
                return {**record, "failed": f"{why}, more than {tolerance:.0e}"}
    found = {name: _figures(case, name, its) for name, its in answers.items()}
    return {**record, **{what: {n: x[what] for n, x in found.items()} for what in _FIGURES}}


_FIGURES = "times", "peak", "added"


def _figures(case: Case, name: str, answers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    warm = case.works[name.removesuffix(TODAY)].warm
    seconds = [one for answer in answers for one in answer["seconds"][warm:]]
    peak = statistics.median(answer["peak"] for answer in answers)
    before = [answer["before"] for answer in answers if answer["before"] is not None]
    return {
        "times": Timing(*quartiles(seconds), len(seconds), 1)._asdict(),
        "peak": peak,
        "added": peak - statistics.median(before) if before else None,
    }


def _apart(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """‖ours − theirs‖ / ‖theirs‖; infinite where they are not as many."""
    if len(ours) != len(theirs):
        return float("inf")
    return dist(ours, theirs) / (hypot(*theirs) or 1.0)
