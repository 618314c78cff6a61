"""Cases measured in processes of their own, of this build and of an older one, in turns."""

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from math import dist, hypot
from pathlib import Path
from typing import Any

from hyena.bench import folder
from hyena.bench.allocator import environment
from hyena.bench.folder import Result
from hyena.bench.model.cases import TODAY, Case, Work
from hyena.bench.timing import Timing, quartiles, rounds

# Relative L2 differences of the builds' numbers, or from those of the truth.
_TOLERANCE, _BF16_TOLERANCE = 1e-3, 5e-2
_SCRIPT = Path(__file__).with_name("work.py")
_EMULATED = "this processor has no instructions for bfloat16, and takes many times as long"

Ask = Callable[[str, Mapping[str, Any]], dict[str, Any]]
"""What a Python answers to a request; see `hyena.bench.model.work`."""


def ask(python: str, request: Mapping[str, Any], script: Path = _SCRIPT) -> dict[str, Any]:
    """The answer of a fresh process; if it died, "failed" says so."""
    done = subprocess.run(
        [python, str(script)],
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


def run(
    cases: Sequence[Case],
    out: Path,
    *,
    threads: int,
    old: str | None = None,
    repeats: int | None = None,
    bfloat16: bool = True,
    progress: Callable[[int], object] = lambda done: None,
    say: Callable[[str], None] = print,
    ask: Ask = ask,
) -> dict[str, Result]:
    """Measures the cases that a folder does not hold yet; see `hyena.bench.folder.run`.

    Args: as of `measure` and `hyena.bench.folder.run`.
    Raises: ValueError if a file of the folder is damaged, or what it holds was measured beside
        another older build, of which a table would not tell them apart.
    """
    if old is not None:
        _check_older(out, old, threads, ask)
    options: dict[str, Any] = {"threads": threads, "old": old, "repeats": repeats, "ask": ask}
    options["bfloat16"] = bfloat16
    return folder.run(
        cases, out, lambda case, _: measure(case, **options), progress=progress, say=say
    )


def _check_older(out: Path, old: str, threads: int, ask: Ask) -> None:
    """Raises ValueError if the older build of a folder's results is another one."""
    there = [result.get("builds", {}).get("older") for result in folder.read(out).values()]
    before = [build for build in there if build is not None]
    if not before:
        return
    answer = ask(old, {**asdict(Work("build", 0)), "threads": threads})
    if "failed" in answer:
        raise ValueError(f"old: {old} does not say which build it is: {answer['failed']}")
    now = answer["build"]
    for build in before:
        # Of one build a checkout and an installed copy say the commit or not.
        other = sorted(n for n in {*build, *now} - {"commit"} if build.get(n) != now.get(n))
        if other:
            raise ValueError(
                f"{out} holds results beside another older build: its {other[0]} is "
                f"{now.get(other[0])} now and was {build.get(other[0])} there; give the Python of "
                "that one to --old, choose another folder with --out, or measure all again with "
                "--fresh true"
            )


def measure(
    case: Case,
    *,
    threads: int,
    old: str | None = None,
    repeats: int | None = None,
    bfloat16: bool = True,
    ask: Ask = ask,
) -> Result:
    """Times and memory of a case's contenders.

    What two builds compute alike is compared, and all with the truth if the case has one. What is
    too far from that is left out, and if it is ours nothing is reported of the case.

    Args: the case; threads; the Python of the older build; processes of each contender, none takes
        the case's number; whether contenders in bfloat16 are measured beside others, which without
        instructions for it would take most of the time; who answers.
    Returns: "row", the case; "times", "peak" and "added" (bytes: of the process, and beyond what it
        had before the calls) by contender; "builds", what `hyena.bench.model.work.build` says of
        "this" and of the "older" one; with a truth "errors", relative L2 ones, and "first", the
        first number of each and of the truth; "skipped", why one was left out; or instead "failed".
    """
    record: Result = {"row": case.record(), "builds": {}, "skipped": {}}
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in case.contenders}
    narrow = [name for name in answers if _narrow(case.works[name.removesuffix(TODAY)])]
    if not bfloat16 and len(narrow) < len(answers):
        record["skipped"] = dict.fromkeys(narrow, _EMULATED)
        answers = {name: its for name, its in answers.items() if name not in narrow}
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
            tolerance = _tolerance(case.works[name])
            if not apart <= tolerance:  # nor if it is a NaN
                why = f"{name}: its numbers differ from the older build's by {apart:.1e}"
                return {**record, "failed": f"{why}, more than {tolerance:.0e}"}
    if case.truth is not None:
        truth = ask(sys.executable, {**asdict(case.truth), "threads": threads})
        why = _compare(case, answers, truth, record)
        if why:
            return {**record, "failed": why}
    found = {name: _figures(case, name, its) for name, its in answers.items()}
    return {**record, **{what: {n: x[what] for n, x in found.items()} for what in _FIGURES}}


def _compare(
    case: Case,
    answers: dict[str, list[dict[str, Any]]],
    truth: Mapping[str, Any],
    record: Result,
) -> str:
    """Adds "errors" and "first" to the record, and takes out those that are too far from the truth.

    Returns: why nothing can be reported of the case, one line, or nothing.
    """
    if "failed" in truth:
        return f"the truth: {truth['failed']}"
    record["errors"], record["first"] = {}, {"truth": truth["numbers"][0]}
    for name in list(answers):
        numbers = answers[name][0]["numbers"]
        apart = record["errors"][name] = _apart(numbers, truth["numbers"])
        record["first"][name] = numbers[0]
        tolerance = _tolerance(case.works[name.removesuffix(TODAY)])
        if apart <= tolerance:  # which a NaN is not
            continue
        why = f"its numbers differ from the truth by {apart:.1e}, more than {tolerance:.0e}"
        if name.startswith("ours") or len(answers) == 1:
            return f"{name}: {why}"
        record["skipped"][name] = why
        del answers[name]
    return ""


def _narrow(work: Work) -> bool:
    return work.bf16 or work.dtype == "bfloat16"


def _tolerance(work: Work) -> float:
    return _BF16_TOLERANCE if _narrow(work) else _TOLERANCE


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
