"""Curves in panels: figures that grow with the length, intervals over a size, learning curves.

A label has one colour in all panels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hyena.plots.figure import new_figure, save_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curves = Mapping[str, Sequence[tuple[float, float]]]
"""The points (length, value) of each curve, by its label."""
Runs = Sequence[Sequence[tuple[float, float]]]
"""The points (amount of training, value) of each of a model's runs."""


class Point(NamedTuple):
    """A figure and the ends of its interval, at a size."""

    x: float
    value: float
    low: float
    high: float


def draw_lengths(panels: Mapping[str, Curves], path: str | Path, *, ylabel: str) -> Path:
    """Draws curves against the length, both axes logarithmic, in rows of up to three panels.

    Args:
        panels: curves by the panel's title; values above zero.
        path: the PNG to write.
        ylabel: what the values are.

    Returns, Raises: see `hyena.plots`.
    """
    figure, axes = new_panels(panels, 6.5, 5, sharey=True)
    for panel, curves in axes:
        for style, points in curves:
            lengths, values = zip(*sorted(points), strict=True) if points else ((), ())
            panel.plot(lengths, values, marker="o", markersize=3, **style)
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        panel.set(xlabel="length L", ylabel=ylabel)
        panel.legend(fontsize="small")
    return save_png(figure, path)


def draw_intervals(
    panels: Mapping[str, Mapping[str, Sequence[Point]]],
    path: str | Path,
    *,
    xlabel: str,
    ylabel: str,
    logarithmic: bool,
    top: float | None = None,
) -> Path:
    """Draws curves with their intervals, in panels side by side.

    Args:
        panels: the points of each curve by its label, by the panel's title.
        path: the PNG to write.
        xlabel, ylabel: what sizes and values are.
        logarithmic: whether the sizes are drawn by their powers of two.
        top: the values are drawn from 0 to a little above it; none fits them.

    Returns, Raises: see `hyena.plots`.
    """
    figure, axes = new_panels(panels, 4.5, 4.5, margin=1.5, columns=len(panels), sharey=True)
    for panel, curves in axes:
        for style, points in curves:
            if not points:
                continue
            x, value, low, high = zip(*sorted(points), strict=True)
            below = [v - end for v, end in zip(value, low, strict=True)]
            above = [end - v for v, end in zip(value, high, strict=True)]
            panel.errorbar(
                x, value, yerr=[below, above], marker="o", markersize=3, capsize=2, **style
            )
        if logarithmic:
            panel.set_xscale("log", base=2)
        ticks = sorted({point.x for _, points in curves for point in points})
        panel.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks], rotation=30, ha="right")
        panel.set_xlabel(xlabel)
        panel.minorticks_off()
    axes[0][0].set_ylabel(ylabel)
    return save_with_legend(figure, axes, top, path)


def draw_learning(
    panels: Mapping[str, Mapping[str, Runs]],
    path: str | Path,
    *,
    xlabel: str,
    ylabel: str,
    top: float | None = None,
) -> Path:
    """Draws the runs of several models against the amount of training.

    Args:
        panels: the runs of each label, by the panel's title.
        xlabel, ylabel: what the amount and the values are.
        path, top: as in `draw_intervals`.

    Returns, Raises: see `hyena.plots`.
    """
    panels = {
        title: {label: [run for run in runs if run] for label, runs in curves.items()}
        for title, curves in panels.items()
    }
    figure, axes = new_panels(panels, 4.5, 3.5, margin=1.5)
    for panel, curves in axes:
        for style, runs in curves:
            for run in runs:
                x, y = zip(*run, strict=True)
                panel.plot(x, y, linewidth=1, marker=".", markersize=3, **style)
        panel.set(xlabel=xlabel, ylabel=ylabel)
    return save_with_legend(figure, axes, top, path)


def new_panels(
    panels: Mapping[str, Mapping[str, Sequence[Any]]],
    width: float,
    height: float,
    *,
    margin: float = 0,
    columns: int = 3,
    sharey: bool = False,
) -> tuple[Figure, list[tuple[Axes, list[tuple[dict[str, Any], Any]]]]]:
    """A figure with a panel of this size, in inches, for each title, and a margin for a legend.

    Returns: the figure; the axes of each panel, with the style and the points of each curve.
    """
    if not any(points for curves in panels.values() for points in curves.values()):
        raise ValueError("curves were to be drawn, but there are no points")
    labels = dict.fromkeys(label for curves in panels.values() for label in curves)
    styles = {
        label: {"color": f"C{i % 10}", "linestyle": ("-", "--", ":")[i // 10 % 3], "label": label}
        for i, label in enumerate(labels)
    }
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(margin + width * columns, height * rows)
    axes = figure.subplots(rows, columns, squeeze=False, sharey=sharey).flatten()
    for unused in axes[len(panels) :]:
        unused.remove()
    drawn = []
    for (title, curves), panel in zip(panels.items(), axes, strict=False):
        panel.set_title(title)
        panel.grid(alpha=0.3)
        drawn.append((panel, [(styles[label], points) for label, points in curves.items()]))
    return figure, drawn


def save_with_legend(
    figure: Figure, axes: list[tuple[Axes, Any]], top: float | None, path: str | Path
) -> Path:
    """Writes the figure with one legend beside all panels."""
    handles = {}
    for panel, _ in axes:
        if top is not None:
            panel.set_ylim(0, 1.03 * top)
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            handles[label] = handle
    figure.legend(handles.values(), handles.keys(), loc="outside right upper", fontsize="small")
    return save_png(figure, path)
