"""The loss over the compute: trainings of several families, and the curves fitted to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from hyena.plots.curves import new_panels, save_with_legend

_DASHES = ("-", "--", ":", "-.")


class Measured(NamedTuple):
    """What is drawn of a family.

    Attributes:
        points: (compute, loss) of each training, compute above zero.
        curves: by the name of each fitted curve, points of it; none where nothing could be fitted.
    """

    points: Sequence[tuple[float, float]]
    curves: Mapping[str, Sequence[tuple[float, float]]]


def draw_scaling(
    panels: Mapping[str, Mapping[str, Measured]], path: str | Path, *, xlabel: str, ylabel: str
) -> Path:
    """Draws losses against the logarithm of the compute, in rows of up to three panels.

    A family has one colour in all panels, and a fitted curve one kind of dashes for all families.

    Args:
        panels: what was measured of each family by its label, by the panel's title.
        path: the PNG to write.
        xlabel, ylabel: what compute and loss are.

    Returns, Raises: see `hyena.plots`.
    """
    drawn = {
        title: {label: [one] if one.points else [] for label, one in families.items()}
        for title, families in panels.items()
    }
    figure, axes = new_panels(drawn, 4.5, 4, margin=2, columns=2 if len(panels) == 4 else 3)
    of_all = [one for families in panels.values() for one in families.values()]
    names = dict.fromkeys(name for one in of_all for name in one.curves)
    dashes = {name: _DASHES[i % len(_DASHES)] for i, name in enumerate(names)}
    for panel, families in axes:
        for style, found in families:
            for one in found:
                x, y = zip(*sorted(one.points), strict=True)
                panel.plot(x, y, **{**style, "linestyle": "", "marker": "o", "markersize": 4})
                for name, points in one.curves.items():
                    x, y = zip(*points, strict=True)
                    panel.plot(x, y, color=style["color"], linestyle=dashes[name], linewidth=1)
        panel.set_xscale("log")
        panel.set(xlabel=xlabel, ylabel=ylabel)
    for name, dash in dashes.items():  # of no family: only the legend has them
        axes[0][0].plot([], [], color="0.4", linestyle=dash, linewidth=1, label=name)
    return save_with_legend(figure, axes, None, path)
