"""Points of results, gathered into curves against the length."""

from collections.abc import Iterable

Point = tuple[str, str, int, float]
"""Panel, curve, length and value."""


def panels_of(points: Iterable[Point]) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Curves by panel, without panels of one length only; of two points at a length the last."""
    found: dict[str, dict[str, dict[float, float]]] = {}
    for panel, curve, length, value in points:
        found.setdefault(panel, {}).setdefault(curve, {})[length] = value
    return {
        panel: {curve: list(values.items()) for curve, values in curves.items()}
        for panel, curves in found.items()
        if len({length for values in curves.values() for length in values}) > 1
    }
