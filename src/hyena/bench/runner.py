"""Cells measured one after the other in processes of their own, and kept in a folder.

A finished cell is a file ``parts/cells/<key>.json``, so a run that was interrupted goes on where it
stopped.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hyena.bench.allocator import Allocator, environment, why_not_tuned
from hyena.bench.cases import Cell
from hyena.bench.measure import Result
from hyena.bench.memory import available

CELLS, SETTING, LIMITS = "parts/cells", "parts/setting.json", "parts/limits.json"

# Float32 numbers for each of B·D·L that a contender holds at its peak, inputs included: forward and
# training. Estimates from above, to leave out what would not fit.
_NUMBERS = {
    "public": (20, 45),
    "torch": (12, 24),
    "sdpa": (8, 20),
    "sdpa_bf16": (8, 20),
    "block": (14, 40),
}
_OURS = (10, 20)
_SHARE = 0.8  # of the memory that is available

# How time grows with the length, for predictions: its exponent.
_GROWTH = {"sdpa": 2.0, "sdpa_bf16": 2.0, "block": 2.0, "block_autocast": 2.0, "block_bf16": 2.0}
_GROWTH_OF_FFT = 1.3
"""More than L log L: beyond the caches each step is slower."""


@dataclass(frozen=True)
class Options:
    """How to measure."""

    threads: int
    repeats: int = 100
    """Samples of a contender at most."""
    seconds: float | None = None
    """Budget of each cell's samples; none takes the cell's own."""
    memory: bool = True


class Worker:
    """A process under an allocator that answers requests."""

    def __init__(self, allocator: Allocator, threads: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "hyena.bench.worker", str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=environment(allocator),
            start_new_session=True,  # apart from the terminal: Ctrl-C is ours, and we end it
        )

    def ask(self, request: Mapping[str, Any]) -> Result:
        """Its answer; if it died, "failed" says so."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if line:
            return dict(json.loads(line))
        code = process.wait()
        cause = f"killed by signal {-code}, perhaps for want of memory" if code < 0 else f"{code}"
        return {"failed": f"its process ended: {cause}", "ended": True}

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()


class _Workers:
    """At most one worker at a time, started when it is needed."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._worker: Worker | None = None
        self._allocator: Allocator | None = None

    def ask(self, allocator: Allocator, request: Mapping[str, Any]) -> Result:
        if self._worker is None or self._allocator != allocator:
            self.close()
            self._worker, self._allocator = Worker(allocator, self._threads), allocator
        answer = self._worker.ask(request)
        if answer.pop("ended", False):
            self.close()
        return answer

    def close(self) -> None:
        """Ends the worker: the next request has a fresh one, and its memory is free again."""
        if self._worker is not None:
            self._worker.close()
        self._worker = None


def run(
    cells: Sequence[Cell],
    out: Path,
    options: Options,
    setting: Mapping[str, Any],
    *,
    limits: Mapping[str, Any] | None = None,
    progress: Callable[[int], None] | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Result]:
    """Measures the cells that the folder does not hold yet.

    Args:
        cells: in any order; they are measured allocator by allocator.
        out: the folder.
        options: how to measure.
        setting: what the folder's results must have in common.
        limits: options of `hyena.bench.limits.limits`.
        progress: called with the number of cells that are done.
        say: is given a line for each cell that was measured.

    Returns: all results of the folder by key, also those of cells that were not asked for.
    Raises: ValueError if the folder's results are of another setting, or a file is damaged.
    """
    open_folder(out, setting)
    results = read(out)
    todo = [cell for cell in cells if not _is_done(cell, results.get(cell.key), options)]
    if len(todo) < len(cells):
        say(f"{len(cells) - len(todo)} of {len(cells)} cells are there already")
    workers = _Workers(options.threads)
    try:
        if not (out / LIMITS).is_file():
            answer = workers.ask("default", {"do": "limits", "options": dict(limits or {})})
            _write(out / LIMITS, answer)
        for done, cell in enumerate(sorted(todo, key=lambda cell: cell.allocator)):
            if progress is not None:
                progress(len(cells) - len(todo) + done)
            result = _measure(cell, options, results, workers)
            _write(out / CELLS / f"{cell.key}.json", result)
            results[cell.key] = result
            say(f"{cell}: {outcome(result)}")
    finally:
        workers.close()
    if progress is not None:
        progress(len(cells))
    return read(out)


def open_folder(out: Path, setting: Mapping[str, Any]) -> None:
    """Makes the folder, or checks that its results are of the same setting; ValueError if not."""
    file = out / SETTING
    if file.is_file():
        there = _read(file)
        different = sorted(name for name in setting if there.get(name) != setting[name])
        if different:
            name = different[0]
            raise ValueError(
                f"{out} holds results of another setting: {name} is {setting[name]!r} now and was "
                f"{there.get(name)!r} there; choose another folder with --out, or measure all "
                "again with --fresh true"
            )
        return
    _write(file, setting)


def read(out: Path) -> dict[str, Result]:
    """The results in a folder by key. Raises: ValueError if a file is damaged."""
    return {file.stem: _read(file) for file in sorted((out / CELLS).glob("*.json"))}


def read_limits(out: Path) -> dict[str, float]:
    """What `hyena.bench.limits.limits` found; empty if it failed."""
    found = _read(out / LIMITS) if (out / LIMITS).is_file() else {}
    return {} if "failed" in found else found


def clear(out: Path) -> None:
    """Removes the results of earlier runs from a folder."""
    for file in (out / SETTING, out / LIMITS, *(out / CELLS).glob("*.json")):
        file.unlink(missing_ok=True)


def outcome(result: Result) -> str:
    """One line: the medians, or why there are none."""
    if "failed" in result:
        return str(result["failed"])
    if "times" not in result:
        worst = {name: max(errors.values()) for name, errors in result["errors"].items()}
        return ", ".join(f"{name} differs by {error:.1e}" for name, error in worst.items())
    times = {name: 1e3 * timing["median"] for name, timing in result["times"].items()}
    return ", ".join(f"{name} {time:.4g} ms" for name, time in times.items())


def _is_done(cell: Cell, result: Result | None, options: Options) -> bool:
    """Whether a result has all that is asked for; what failed is tried again."""
    if result is None or "failed" in result:
        return False
    if options.memory and cell.memory and "memory" not in result:
        return False
    return set(cell.contenders) <= set(result["cell"]["contenders"])


def _measure(
    cell: Cell, options: Options, results: Mapping[str, Result], workers: _Workers
) -> Result:
    """A cell's result, with what was left out and why."""
    record: Result = {
        "cell": asdict(cell),
        "modes": {name: cell.mode(name) for name in cell.contenders},
        "skipped": {},
    }
    if cell.allocator == "tuned" and why_not_tuned():
        return {**record, "failed": why_not_tuned()}
    room = available()
    if room is not None and need(cell) > _SHARE * room:
        workers.close()  # what it holds is counted as taken
        room = available()
    for name in cell.contenders:
        why = _too_slow(cell, name, results) or _too_large(cell, name, room)
        if why:
            record["skipped"][name] = why
    names = tuple(name for name in cell.contenders if name not in record["skipped"])
    if not names:
        return {**record, "failed": "every contender was left out: see skipped"}
    measured = replace(cell, contenders=names)
    seconds = cell.seconds if options.seconds is None else options.seconds
    asked = {"seconds": seconds, "repeats": options.repeats}
    answer = workers.ask(
        cell.allocator, {"do": "times", "cell": asdict(measured), "options": asked}
    )
    record.update(answer)
    if options.memory and cell.memory and "failed" not in answer:
        workers.close()
        record["memory"] = {}
        for name in cell.memory:
            if name in names:
                request = {"do": "memory", "cell": asdict(measured), "contender": name}
                record["memory"][name] = workers.ask(cell.allocator, request)
                workers.close()
    return record


def need(cell: Cell, name: str | None = None) -> float:
    """Bytes that a contender, or the largest of a cell, may hold at its peak; from above."""
    names = cell.contenders if name is None else (name,)
    training = cell.direction == "training"
    numbers = max(_NUMBERS.get(name, _OURS)[training] for name in names)
    return 4.0 * numbers * cell.batch * cell.width * max(cell.length, cell.beside or 0)


def _too_large(cell: Cell, name: str, room: int | None) -> str:
    bytes = need(cell, name)
    if room is None or bytes <= _SHARE * room:
        return ""
    return f"may need {bytes / 2**30:.1f} GiB, and {room / 2**30:.1f} GiB are free"


def _too_slow(cell: Cell, name: str, results: Mapping[str, Result]) -> str:
    """Why a contender would try the cell's patience, by its time at the next shorter length."""
    if cell.patience is None:
        return ""
    same = ("work", "direction", "allocator", "width", "batch")
    length, time = 0, 0.0
    for result in results.values():
        its = result["cell"]
        if any(its[field] != getattr(cell, field) for field in same):
            continue
        timing = result.get("times", {}).get(name)
        if timing is not None and length < its["length"] < cell.length:
            length, time = its["length"], timing["median"]
    expected = time * (cell.length / max(length, 1)) ** _GROWTH.get(name, _GROWTH_OF_FFT)
    if expected <= cell.patience:
        return ""
    return f"expected to take {expected:.0f} s a call, going by {time:.2g} s at L={length}"


def _read(file: Path) -> Result:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as problem:
        raise ValueError(f"{file} is damaged ({problem}); remove it") from problem


def _write(file: Path, value: Mapping[str, Any]) -> None:
    """Under another name first, so that there is never half a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    os.replace(part, file)
