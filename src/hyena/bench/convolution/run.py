"""Cases measured in processes of their own, and what is left out for want of time or memory."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from hyena.bench import folder
from hyena.bench.allocator import why_not_tuned
from hyena.bench.convolution.cases import Case
from hyena.bench.folder import Result
from hyena.bench.memory import too_large
from hyena.bench.processes import Workers

# Float32 numbers for each of B·D·L that a contender holds at its peak, inputs included: forward and
# training. Estimates from above, to leave out what would not fit.
_NUMBERS = {
    "public": (20, 45),
    "torch": (12, 24),
    "conv1d": (14, 40),
    "sdpa": (8, 20),
    "sdpa_bf16": (8, 20),
    "block": (14, 40),
}
_OURS = (10, 20)

# How time grows with the length, for predictions: its exponent.
_GROWTH = {"sdpa": 2.0, "sdpa_bf16": 2.0, "block": 2.0, "block_autocast": 2.0, "block_bf16": 2.0}
_GROWTH_OF_FFT = 1.3
"""More than L log L: beyond the caches each step is slower."""


def run(
    cases: Sequence[Case],
    out: Path,
    *,
    threads: int,
    seconds: float | None = None,
    repeats: int = 100,
    limits: Mapping[str, Any] | None = None,
    progress: Callable[[int], object] = lambda done: None,
    say: Callable[[str], None] = print,
) -> dict[str, Result]:
    """Measures the cases that a folder does not hold yet; see `hyena.bench.folder.run`.

    Args:
        cases: in any order; they are measured allocator by allocator.
        out: the folder, opened by `hyena.bench.folder.open_folder`.
        threads: of each process.
        seconds: budget of each case's samples; none takes the case's own.
        repeats: samples of a contender at most.
        limits: options of `hyena.bench.convolution.limits.limits`.

    Raises: ValueError if a file of the folder is damaged.
    """
    workers = Workers(threads)
    try:
        if not (out / folder.LIMITS).is_file():
            answer = workers.ask("default", {"do": "limits", "options": dict(limits or {})})
            folder.write_json(out / folder.LIMITS, answer)
        return folder.run(
            sorted(cases, key=lambda case: case.allocator),
            out,
            partial(measure, workers, seconds, repeats),
            progress=progress,
            say=say,
        )
    finally:
        workers.close()


def measure(
    workers: Workers,
    seconds: float | None,
    repeats: int,
    case: Case,
    results: Mapping[str, Result],
) -> Result:
    """A case's result, with what was left out and why.

    Args: workers; the budget, none takes the case's own; samples of a contender at most; the case;
        the results so far, by which its patience is known.
    """
    record: Result = {
        "cell": asdict(case),
        "modes": {name: case.mode(name) for name in case.contenders},
        "skipped": {},
    }
    if case.allocator == "tuned" and why_not_tuned():
        return {**record, "failed": why_not_tuned()}
    if too_large(need(case), case.device):
        workers.close()  # what it holds is counted as taken
    for name in case.contenders:
        why = _too_slow(case, name, results) or too_large(need(case, name), case.device)
        if why:
            record["skipped"][name] = why
    names = tuple(name for name in case.contenders if name not in record["skipped"])
    if not names:
        return {**record, "failed": "every contender was left out: see skipped"}
    asked = asdict(replace(case, contenders=names))
    budget = {"seconds": case.seconds if seconds is None else seconds, "repeats": repeats}
    answer = workers.ask(case.allocator, {"do": "times", "cell": asked, "options": budget})
    record["skipped"] |= answer.pop("skipped", {})
    record |= answer
    if case.memory and "failed" not in record:
        memory = {"do": "memory", "cell": asked}
        # The counters of another device are set back, so that no fresh process is needed.
        ask = workers.ask_fresh if case.device == "cpu" else workers.ask
        record["memory"] = {
            name: ask(case.allocator, {**memory, "contender": name})
            for name in case.memory
            if name in names and name not in record["skipped"]
        }
    return record


def need(case: Case, name: str | None = None) -> float:
    """Bytes that a contender, or the largest of a case, may hold at its peak; from above."""
    names = case.contenders if name is None else (name,)
    training = case.direction == "training"
    numbers = max(_NUMBERS.get(name, _OURS)[training] for name in names)
    if case.work == "hyena-li" and training and "public" in names:
        numbers += 64  # it has all exponentials at once, and what their gradients take
    return 4.0 * numbers * case.batch * case.width * max(case.length, case.beside or 0)


def _too_slow(case: Case, name: str, results: Mapping[str, Result]) -> str:
    """Why a contender would try the case's patience, by its time at the next shorter length."""
    if case.patience is None:
        return ""
    same = ("work", "direction", "allocator", "width", "batch")
    length, time = 0, 0.0
    for result in results.values():
        its = result["cell"]
        if any(its[field] != getattr(case, field) for field in same):
            continue
        timing = result.get("times", {}).get(name)
        if timing is not None and length < its["length"] < case.length:
            length, time = its["length"], timing["median"]
    expected = time * (case.length / max(length, 1)) ** _GROWTH.get(name, _GROWTH_OF_FFT)
    if expected <= case.patience:
        return ""
    return f"expected to take {expected:.0f} s a call, going by {time:.2g} s at L={length}"
