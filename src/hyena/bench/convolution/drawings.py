"""Times and peak memory against the length, as log-log drawings."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hyena.bench.convolution.cases import CONTENDERS
from hyena.bench.goals import Results
from hyena.plots import draw_lengths

_WORKS = ("gated_conv", "operator", "operator_bf16")


def draw(results: Results, out: Path) -> list[Path]:
    """Draws ``time_<work>_<direction>.png`` and ``memory_…``, with a panel for each width and
    allocator; nothing where a panel would have one length only.

    Returns: the files written. Raises: as `hyena.plots.draw_lengths`.
    """
    files = []
    for work in _WORKS:
        for direction in ("forward", "training"):
            for what, ylabel, value in (
                ("time", "milliseconds", _milliseconds),
                ("memory", "peak memory of a call beyond its inputs, MiB", _mebibytes),
            ):
                panels = _panels(results, work, direction, value)
                if panels:
                    file = out / f"{what}_{work}_{direction}.png"
                    files.append(draw_lengths(panels, file, ylabel=ylabel))
    return files


def _panels(
    results: Results,
    work: str,
    direction: str,
    value: Callable[[Mapping[str, Any], str], float | None],
) -> dict[str, dict[str, list[tuple[float, float]]]]:
    found: dict[tuple[int, str], dict[str, dict[int, float]]] = {}
    # Where both suites have a size, the sweep's, so that a curve is of one run.
    for result in sorted(results.values(), key=lambda result: str(result["cell"]["suite"])):
        cell = result["cell"]
        if (cell["work"], cell["direction"]) != (work, direction):
            continue
        curves = found.setdefault((cell["width"], cell["allocator"]), {})
        for name in cell["contenders"]:
            number = value(result, name)
            if number:
                curves.setdefault(CONTENDERS[name], {})[cell["length"]] = number
    return {
        f"D = {width}, {allocator} allocator": {
            label: [(float(length), number) for length, number in points.items()]
            for label, points in curves.items()
        }
        for (width, allocator), curves in sorted(found.items())
        if len({length for points in curves.values() for length in points}) > 1
    }


def _milliseconds(result: Mapping[str, Any], name: str) -> float | None:
    timing = result.get("times", {}).get(name)
    return None if timing is None else 1e3 * timing["median"]


def _mebibytes(result: Mapping[str, Any], name: str) -> float | None:
    peak = result.get("memory", {}).get(name, {})
    return peak["call"] / 2**20 if "call" in peak else None
