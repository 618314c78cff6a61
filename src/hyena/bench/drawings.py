"""Points of results, gathered into curves against the length."""

from collections.abc import Iterable
from pathlib import Path

from hyena.plots import draw_lengths

Point = tuple[str, str, int, float]
"""Panel, curve, length and value."""


def draw_points(points: Iterable[Point], file: Path, ylabel: str) -> list[Path]:
    """Draws curves against the length, without panels of one length only; of two points at a
    length the last.

    Returns: the file, if there is anything to draw. Raises: as `hyena.plots.draw_lengths`.
    """
    found: dict[str, dict[str, dict[float, float]]] = {}
    for panel, curve, length, value in points:
        found.setdefault(panel, {}).setdefault(curve, {})[length] = value
    panels = {
        panel: {curve: list(values.items()) for curve, values in curves.items()}
        for panel, curves in found.items()
        if len({length for values in curves.values() for length in values}) > 1
    }
    return [draw_lengths(panels, file, ylabel=ylabel)] if panels else []
