"""The loss by the position in a window."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hyena.plots.curves import Curves, new_panels
from hyena.plots.figure import save_png


def draw_positions(curves: Curves, path: str | Path, *, marks: Sequence[float] = ()) -> Path:
    """Draws losses against the position, in powers of two.

    Args:
        curves: the points (position above zero, loss in nats of a token) of each label.
        path: the PNG to write.
        marks: positions of vertical lines, such as the lengths that models were trained at.

    Returns, Raises: see `hyena.plots`.
    """
    figure, axes = new_panels({"": curves}, 7.5, 4.5)
    ((panel, styled),) = axes
    for style, points in styled:
        if points:
            x, y = zip(*sorted(points), strict=True)
            panel.plot(x, y, marker="o", markersize=3, **style)
    for mark in marks:
        panel.axvline(mark, color="0.5", linestyle=":", linewidth=1)
    panel.set_xscale("log", base=2)
    panel.set(xlabel="position in the window", ylabel="loss (nats per token)")
    panel.legend(fontsize="small")
    return save_png(figure, path)
