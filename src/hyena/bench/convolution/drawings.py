"""Times and peak memory against the length, as log-log drawings."""

from collections.abc import Iterator
from pathlib import Path

from hyena.bench.convolution.cases import CONTENDERS
from hyena.bench.drawings import Point, panels_of
from hyena.bench.goals import Results
from hyena.plots import draw_lengths

# Of each drawing: where its values stand in a result, their unit, and what they are.
_DRAWN = {
    "time": ("times", "median", 1e-3, "milliseconds"),
    "memory": ("memory", "call", 2.0**20, "peak memory of a call beyond its inputs, MiB"),
}


def draw(results: Results, out: Path) -> list[Path]:
    """Draws ``time_<work>_<direction>.png`` and ``memory_…``, with a panel for each width and
    allocator; nothing where a panel would have one length only.

    Returns: the files written. Raises: as `hyena.plots.draw_lengths`.
    """
    files = []
    for work in ("gated_conv", "operator", "operator_bf16"):
        for direction in ("forward", "training"):
            for what, (field, figure, unit, ylabel) in _DRAWN.items():
                panels = panels_of(_points(results, work, direction, field, figure, unit))
                if panels:
                    file = out / f"{what}_{work}_{direction}.png"
                    files.append(draw_lengths(panels, file, ylabel=ylabel))
    return files


def _points(
    results: Results, work: str, direction: str, field: str, figure: str, unit: float
) -> Iterator[Point]:
    """Where both suites have a size, the sweep's comes last, so that a curve is of one run."""
    order = ("width", "allocator", "suite")
    for result in sorted(results.values(), key=lambda x: [x["cell"][name] for name in order]):
        cell = result["cell"]
        if (cell["work"], cell["direction"]) == (work, direction):
            panel = f"D = {cell['width']}, {cell['allocator']} allocator"
            for name, found in result.get(field, {}).items():
                if found.get(figure):
                    yield panel, CONTENDERS[name], cell["length"], found[figure] / unit
