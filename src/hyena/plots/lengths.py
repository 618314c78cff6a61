"""Figures that grow with the sequence length, such as times and memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from hyena.plots.figure import line_styles, new_panels, save_png

Curves = Mapping[str, Sequence[tuple[float, float]]]
"""The points (length, value) of each curve, by its label."""


def draw_lengths(panels: Mapping[str, Curves], path: str | Path, *, ylabel: str) -> Path:
    """Draws curves against the length, both axes logarithmic, in rows of up to three panels.

    A label has the same colour in all panels.

    Args:
        panels: curves by the panel's title; values above zero.
        path: the PNG to write.
        ylabel: what the values are.

    Returns: ``path``.

    Raises: ValueError if there is no point to draw; ImportError if matplotlib is not installed;
        OSError if the file cannot be written.
    """
    figure, axes = new_panels(panels, 6.5, 5, sharey=True)
    styles = line_styles(panels)
    for curves, panel in zip(panels.values(), axes, strict=True):
        for label, points in curves.items():
            lengths, values = zip(*sorted(points), strict=True) if points else ((), ())
            panel.plot(lengths, values, marker="o", markersize=3, **styles[label])
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        panel.set(xlabel="length L", ylabel=ylabel)
        panel.legend(fontsize="small")
    return save_png(figure, path)
