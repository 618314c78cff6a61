"""Figures without a display: empty ones, and as PNG files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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


def save_png(figure: Figure, path: str | Path) -> Path:
    """Writes the figure, making the folder if needed, and returns the path.

    Raises: OSError if the folder cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png", dpi=120)
    except (OSError, ValueError) as error:  # ValueError of a name that no file can have
        why = getattr(error, "strerror", None) or error
        raise OSError(f"{path!s:.200} cannot be written: {why}; choose another folder") from error
    return path
