"""Figures over a length or another size, each with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from hyena.plots.figure import add_legend, line_styles, new_panels, save_png


class Point(NamedTuple):
    """A figure and the ends of its interval, at a size."""

    x: float
    value: float
    low: float
    high: float


def draw_intervals(
    panels: Mapping[str, Mapping[str, Sequence[Point]]],
    path: str | Path,
    *,
    xlabel: str,
    ylabel: str,
    logarithmic: bool,
    top: float | None = None,
) -> Path:
    """Draws curves with their intervals, in panels side by side; a label has one colour.

    Args:
        panels: the points of each curve by its label, by the panel's title.
        path: the PNG to write.
        xlabel, ylabel: what sizes and values are.
        logarithmic: whether the sizes are drawn by their powers of two.
        top: the values are drawn from 0 to a little above it; none fits them.

    Returns: ``path``.

    Raises: ValueError if there is no point to draw; ImportError if matplotlib is not installed;
        OSError if the file cannot be written.
    """
    figure, axes = new_panels(panels, 4.5, 4.5, margin=1.5, columns=len(panels), sharey=True)
    styles = line_styles(panels)
    for curves, panel in zip(panels.values(), axes, strict=True):
        for label, points in curves.items():
            if not points:
                continue
            x, value, low, high = zip(*sorted(points), strict=True)
            below = [v - end for v, end in zip(value, low, strict=True)]
            above = [end - v for v, end in zip(value, high, strict=True)]
            panel.errorbar(
                x, value, yerr=[below, above], marker="o", markersize=3, capsize=2, **styles[label]
            )
        if logarithmic:
            panel.set_xscale("log", base=2)
        ticks = sorted({point.x for points in curves.values() for point in points})
        panel.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks], rotation=30, ha="right")
        panel.set_xlabel(xlabel)
        panel.minorticks_off()
    axes[0].set_ylabel(ylabel)
    if top is not None:
        axes[0].set_ylim(0, 1.03 * top)
    add_legend(figure, axes)
    return save_png(figure, path)
