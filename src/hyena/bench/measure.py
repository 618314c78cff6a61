"""One cell measured in this process: every contender is checked, then all are timed in turns."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hyena.bench.cases import Cell
from hyena.bench.contender import Contender
from hyena.bench.convolutions import convolutions
from hyena.bench.memory import Peak, peak_of
from hyena.bench.operators import operators
from hyena.bench.timing import time_in_turns

Result = dict[str, Any]
"""What became of a cell, as it is written to JSON."""

_WARM_UP_LENGTH = 256


def build(cell: Cell, names: Sequence[str]) -> dict[str, Contender]:
    """The contenders of a cell by name. Raises: ValueError on a name that is unknown."""
    training = cell.direction == "training"
    if cell.work in ("operator", "operator_bf16"):
        return operators(
            names,
            batch=cell.batch,
            width=cell.width,
            length=cell.length,
            training=training,
            bf16=cell.work == "operator_bf16",
        )
    sizes: dict[str, Any] = {"batch": cell.batch, "width": cell.width, "training": training}
    if cell.work == "two_lengths":
        which = "ours_out" if cell.mode("ours") == "c" else "ours"
        return {
            name: convolutions([which], length=int(name.removeprefix("L=")), **sizes)[which]
            for name in names
        }
    return convolutions(names, length=cell.length, short=cell.work == "error", **sizes)


def measure(cell: Cell, *, seconds: float, repeats: int) -> Result:
    """Errors and times of a cell's contenders.

    Args: the cell; the budget and the most samples, as in `hyena.bench.timing.time_in_turns`.
    Returns: "errors" by contender and tensor; "times" by contender, seconds; or instead of times
        "failed", one line, if a contender is further from the truth than it may be.
    """
    contenders = build(cell, cell.contenders)
    errors: dict[str, dict[str, float]] = {}
    first = {}
    for name, contender in contenders.items():
        begin = time.perf_counter()
        got = (contender.checked or contender.call)()
        first[name] = time.perf_counter() - begin
        errors[name] = contender.errors(got)
        del got
        for tensor, error in errors[name].items():
            # Not "error > tolerance": a NaN is no small error.
            if not error <= contender.tolerance and cell.work != "error":
                return {
                    "errors": errors,
                    "failed": f"{name}: {tensor} differs from float64 by {error:.1e}, more than "
                    f"{contender.tolerance:.0e}; nothing of this cell was timed",
                }
    if cell.work == "error":
        return {"errors": errors}
    calls = {name: contender.call for name, contender in contenders.items()}
    times = time_in_turns(calls, seconds=seconds, repeats=repeats, first=first)
    return {"errors": errors, "times": {name: t._asdict() for name, t in times.items()}}


def measure_memory(cell: Cell, name: str) -> Result:
    """The peak memory of one call of one contender; for a fresh process.

    Libraries are set up by a call on a short input first.

    Returns: "call" and "process" in bytes, see `hyena.bench.memory.Peak`; or "why_not", one line.
    """
    if cell.work == "two_lengths":
        length = int(name.removeprefix("L="))
        which = "ours_out" if cell.mode("ours") == "c" else "ours"
        cell, name = replace(cell, work="gated_conv", length=length, beside=None), which
    short = replace(cell, length=min(cell.length, _WARM_UP_LENGTH))
    build(short, [name])[name].call()
    peak = peak_of(build(cell, [name])[name].call)
    return peak._asdict() if isinstance(peak, Peak) else {"why_not": peak}
