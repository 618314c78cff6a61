"""Figures over a length or another size, each with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from hyena.plots.figure import new_figure, save_png


class Point(NamedTuple):
    """A figure and the ends of its interval, at a size."""

    x: float
    value: float
    low: float
    high: float


def draw_intervals(
    panels: Mapping[str, Mapping[str, Sequence[Point]]],
    path: Path,
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
    if not any(points for curves in panels.values() for points in curves.values()):
        raise ValueError("figures with intervals were to be drawn, but there are none")
    labels = list(dict.fromkeys(label for curves in panels.values() for label in curves))
    figure = new_figure(1.5 + 4.5 * len(panels), 4.5)
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for (title, curves), panel in zip(panels.items(), axes, strict=True):
        for label, points in curves.items():
            if not points:
                continue
            x, value, low, high = zip(*sorted(points), strict=True)
            below = [v - end for v, end in zip(value, low, strict=True)]
            above = [end - v for v, end in zip(value, high, strict=True)]
            number = labels.index(label)
            panel.errorbar(
                x,
                value,
                yerr=[below, above],
                color=f"C{number % 10}",
                linestyle=("-", "--", ":")[number // 10 % 3],
                marker="o",
                markersize=3,
                capsize=2,
                label=label,
            )
        if logarithmic:
            panel.set_xscale("log", base=2)
        ticks = sorted({point.x for points in curves.values() for point in points})
        panel.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks], rotation=30, ha="right")
        panel.set(title=title, xlabel=xlabel)
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    axes[0].set_ylabel(ylabel)
    if top is not None:
        axes[0].set_ylim(0, 1.03 * top)
    handles = {
        label: handle
        for panel in axes
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside right upper", fontsize="small")
    return save_png(figure, path)
