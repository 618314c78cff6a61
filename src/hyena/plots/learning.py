"""Learning curves of several models side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from hyena.plots.figure import add_legend, line_styles, new_panels, save_png

Runs = Sequence[Sequence[tuple[float, float]]]
"""The points (amount of training, value) of each of a model's runs."""


def draw_learning(
    panels: Mapping[str, Mapping[str, Runs]],
    path: str | Path,
    *,
    xlabel: str,
    ylabel: str,
    top: float | None = None,
) -> Path:
    """Draws runs against the amount of training; those of one label share a colour in all panels.

    Args:
        panels: the runs of each label, by the panel's title.
        path: the PNG to write.
        xlabel, ylabel: what the amount and the values are.
        top: the values are drawn from 0 to a little above it; none fits them.

    Returns: ``path``.

    Raises: ValueError if there is no point to draw; ImportError if matplotlib is not installed;
        OSError if the file cannot be written.
    """
    panels = {
        title: {label: [run for run in runs if run] for label, runs in curves.items()}
        for title, curves in panels.items()
    }
    figure, axes = new_panels(panels, 4.5, 3.5, margin=1.5)
    styles = line_styles(panels)
    for curves, panel in zip(panels.values(), axes, strict=True):
        for label, runs in curves.items():
            for run in runs:
                x, y = zip(*run, strict=True)
                panel.plot(x, y, linewidth=1, marker=".", markersize=3, **styles[label])
        panel.set(xlabel=xlabel, ylabel=ylabel)
        if top is not None:
            panel.set_ylim(0, 1.03 * top)
    add_legend(figure, axes)
    return save_png(figure, path)
