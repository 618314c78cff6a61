"""Results as a run would leave them, with times that are easy to reckon with."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from hyena.bench.convolution.cases import Case

# Milliseconds a position of each contender; ours is the quickest.
MS = {"public": 8.0, "torch": 4.0, "sdpa": 100.0, "block": 50.0, "block_bf16": 30.0}


def timing(median: float, samples: int = 5) -> dict[str, float]:
    return {
        "median": median,
        "lower": 0.9 * median,
        "upper": 1.1 * median,
        "samples": samples,
        "calls": 1,
    }


def result(cell: Case, times: Mapping[str, float] | None = None) -> dict[str, Any]:
    """What a cell's file holds; times in seconds, by default MS · length of each contender."""
    made: dict[str, Any] = {
        "cell": asdict(cell),
        "modes": {name: cell.mode(name) for name in cell.contenders},
        "skipped": {},
    }
    if cell.work == "error":
        tensors = {"y": 1e-7, "z": 2e-7, "k": 3e-7, "skip": 1e-7}
        return {**made, "errors": {name: tensors for name in cell.contenders}}
    lengths = {f"L={cell.length}": cell.length, f"L={cell.beside}": cell.beside}
    if times is None:
        times = {
            name: 1e-3 * (lengths.get(name) or MS.get(name, 1.0) * cell.length)
            for name in cell.contenders
        }
    made["errors"] = {name: {"y": 1e-7} for name in times}
    made["times"] = {name: timing(median) for name, median in times.items()}
    if cell.memory:
        made["memory"] = {name: {"call": 2**30, "process": 2**31} for name in cell.memory}
    return made


def results(cells: Sequence[Case]) -> dict[str, dict[str, Any]]:
    return {cell.key: result(cell) for cell in cells}
