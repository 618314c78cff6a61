"""Figures that grow with the sequence length, such as times and memory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from hyena.plots.figure import new_figure, save_png

_MOST_COLUMNS = 3

Curves = Mapping[str, Sequence[tuple[float, float]]]
"""The points (length, value) of each curve, by its label."""


def draw_lengths(panels: Mapping[str, Curves], path: Path, *, ylabel: str) -> Path:
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
    if not any(points for curves in panels.values() for points in curves.values()):
        raise ValueError("a drawing over lengths was asked for, but there are no points")
    labels = list(dict.fromkeys(label for curves in panels.values() for label in curves))
    columns = min(len(panels), _MOST_COLUMNS)
    rows = math.ceil(len(panels) / columns)
    figure = new_figure(6.5 * columns, 5 * rows)
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True).flatten()
    for unused in axes[len(panels) :]:
        unused.remove()
    for (title, curves), panel in zip(panels.items(), axes, strict=False):
        for label, points in curves.items():
            lengths, values = zip(*sorted(points), strict=True) if points else ((), ())
            color = f"C{labels.index(label) % 10}"
            panel.plot(lengths, values, color=color, marker="o", markersize=3, label=label)
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        panel.set(title=title, xlabel="length L", ylabel=ylabel)
        panel.grid(alpha=0.3)
        panel.legend(fontsize="small")
    return save_png(figure, path)
