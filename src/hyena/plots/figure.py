"""Figures without a display: empty ones, with panels of curves, and as PNG files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> Figure:
    """A figure of a size in inches, apart from pyplot, so that it needs no display.

    Raises: ImportError if matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as missing:
        raise ImportError("drawing needs matplotlib: pip install 'hyena[train]'") from missing
    return Figure(figsize=(width, height), layout="constrained")


def new_panels(
    curves: Mapping[str, Mapping[str, Sequence[Any]]],
    width: float,
    height: float,
    *,
    margin: float = 0,
    columns: int = 3,
    sharey: bool = False,
) -> tuple[Figure, list[Axes]]:
    """A figure with a panel for each title, in rows of up to so many.

    Args: what is to be drawn, by the panel's title and the curve's label; sizes of a panel in
        inches; room beside them, as for a legend; panels in a row; whether all have one scale of
        values.

    Raises: ValueError if there is no point to draw; ImportError if matplotlib is not installed.
    """
    if not any(points for of_panel in curves.values() for points in of_panel.values()):
        raise ValueError("curves were to be drawn, but there are no points")
    names = list(curves)
    columns = min(columns, len(names))
    rows = -(-len(names) // columns)
    figure = new_figure(margin + width * columns, height * rows)
    panels = list(figure.subplots(rows, columns, squeeze=False, sharey=sharey).flatten())
    for unused in panels[len(names) :]:
        unused.remove()
    for name, panel in zip(names, panels, strict=False):
        panel.set_title(name)
        panel.grid(alpha=0.3)
    return figure, panels[: len(names)]


def line_styles(panels: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Colour, line and label of each curve, by its label: the same ones in all panels."""
    labels = dict.fromkeys(label for curves in panels.values() for label in curves)
    return {
        label: {"color": f"C{i % 10}", "linestyle": ("-", "--", ":")[i // 10 % 3], "label": label}
        for i, label in enumerate(labels)
    }


def add_legend(figure: Figure, panels: Iterable[Axes]) -> None:
    """One legend of the curves of all panels, beside them."""
    handles = {
        label: handle
        for panel in panels
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside right upper", fontsize="small")


def save_png(figure: Figure, path: str | Path) -> Path:
    """Writes the figure, making the folder if needed, and returns the path.

    Raises: OSError if the folder cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png", dpi=120)
    except (OSError, ValueError) as error:  # ValueError of a name that no file can have
        reason = getattr(error, "strerror", None) or error
        raise OSError(f"{path!s:.80} cannot be written: {reason}; choose another folder") from error
    return path
