"""Learning curves of several models side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from hyena.plots.figure import new_figure, save_png

Runs = Sequence[Sequence[tuple[float, float]]]
"""The points (amount of training, value) of each of a model's runs."""

_COLUMNS = 3


def draw_learning(
    panels: Mapping[str, Mapping[str, Runs]],
    path: Path,
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
    if not any(run for curves in panels.values() for runs in curves.values() for run in runs):
        raise ValueError("learning curves were to be drawn, but there are no points")
    labels = list(dict.fromkeys(label for curves in panels.values() for label in curves))
    columns = min(_COLUMNS, len(panels))
    lines = -(-len(panels) // columns)
    figure = new_figure(1.5 + 4.5 * columns, 3.5 * lines)
    axes = figure.subplots(lines, columns, squeeze=False).flatten()
    handles = {}
    for (title, curves), panel in zip(panels.items(), axes, strict=False):
        for label, runs in curves.items():
            number = labels.index(label)
            for run in runs:
                (handles[label],) = panel.plot(
                    *zip(*run, strict=True),
                    color=f"C{number % 10}",
                    linestyle=("-", "--", ":")[number // 10 % 3],
                    linewidth=1,
                    marker=".",
                    markersize=3,
                )
        panel.set(title=title, xlabel=xlabel, ylabel=ylabel)
        if top is not None:
            panel.set_ylim(0, 1.03 * top)
        panel.grid(alpha=0.3)
    for panel in axes[len(panels) :]:
        panel.set_axis_off()
    figure.legend(handles.values(), handles.keys(), loc="outside right upper", fontsize="small")
    return save_png(figure, path)
