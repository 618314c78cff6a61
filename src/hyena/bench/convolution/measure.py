"""One case measured in this process: every contender is checked, then all are timed in turns."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hyena.bench.convolution.cases import STRIPED, Case, is_ours
from hyena.bench.convolution.contender import Contender
from hyena.bench.convolution.gated_conv import convolutions
from hyena.bench.convolution.operators import operators
from hyena.bench.convolution.striped import striped
from hyena.bench.folder import Result
from hyena.bench.memory import Peak, peak_of
from hyena.bench.timing import clock_of, time_in_turns

_WARM_UP_LENGTH = 256


def build(case: Case, names: Sequence[str]) -> dict[str, Contender]:
    """The contenders of a case by name. Raises: ValueError on a name that is unknown."""
    training = case.direction == "training"
    sizes: dict[str, Any] = {"batch": case.batch, "width": case.width, "training": training}
    if case.work in STRIPED:
        known = striped(case.work, length=case.length, **sizes)
    else:
        sizes["device"] = case.device
        if case.work == "two_lengths":
            lengths = {name: int(name.removeprefix("L=")) for name in names}
            return {name: convolutions(length=L, **sizes)["ours"]() for name, L in lengths.items()}
        if case.work.startswith("operator"):
            known = operators(length=case.length, bf16=case.work == "operator_bf16", **sizes)
        else:
            known = convolutions(length=case.length, short=case.work == "error", **sizes)
    for name in names:
        if name not in known:
            raise ValueError(f"{case.work} has {', '.join(known)}, but not {name}")
    return {name: known[name]() for name in names}


def measure(case: Case, *, seconds: float, repeats: int) -> Result:
    """Errors and times of a case's contenders.

    Args: the case; the budget and the most samples, as in `hyena.bench.timing.time_in_turns`.
    Returns: "errors" by contender and tensor; "times" by contender, seconds; "skipped", why a
        baseline was left out, which is further from the truth than it may be; or instead of times
        "failed", one line, if ours is.
    """
    contenders = build(case, case.contenders)
    errors: dict[str, dict[str, float]] = {}
    first = {}
    skipped: dict[str, str] = {}
    clock = clock_of(case.device)
    for name, contender in contenders.items():
        begin = clock()
        got = (contender.checked or contender.call)()
        first[name] = clock() - begin
        errors[name] = contender.errors(got)
        del got
        why = "" if case.work == "error" else _wrong(errors[name], contender.tolerance)
        if why:
            skipped[name] = why
        if len(skipped) == len(contenders) or (why and is_ours(name)):
            failed = f"{name}: {why}; nothing of this case was timed"
            return {"errors": errors, "failed": failed}
    if case.work == "error":
        return {"errors": errors}
    calls = {name: x.call for name, x in contenders.items() if name not in skipped}
    # On another device a first call loads libraries and plans transforms: no later one is as long.
    known = first if case.device == "cpu" else None
    times = time_in_turns(calls, seconds=seconds, repeats=repeats, first=known, clock=clock)
    found = {name: t._asdict() for name, t in times.items()}
    return {"errors": errors, "times": found, "skipped": skipped}


def _wrong(errors: dict[str, float], tolerance: float) -> str:
    """What is further from the truth than it may be, one line, or nothing."""
    for tensor, error in errors.items():
        if not error <= tolerance:  # nor if it is a NaN
            return f"{tensor} differs from float64 by {error:.1e}, more than {tolerance:.0e}"
    return ""


def measure_memory(case: Case, name: str) -> Result:
    """The peak memory of one call of one contender; for a fresh process.

    Libraries are set up by a call on a short input first.

    Returns: "call" and "process" in bytes, see `hyena.bench.memory.Peak`; or "why_not", one line.
    """
    if case.work == "two_lengths":
        length = int(name.removeprefix("L="))
        case, name = replace(case, work="gated_conv", length=length, beside=None), "ours"
    short = replace(case, length=min(case.length, _WARM_UP_LENGTH))
    build(short, [name])[name].call()
    peak = peak_of(build(case, [name])[name].call, case.device)
    return peak._asdict() if isinstance(peak, Peak) else {"why_not": peak}
