"""Drawings as PNG files: loss, learning and scaling curves, learned filters, figures over lengths
and positions.

Each function returns the path of the file that it writes. It raises ValueError if there is nothing
to draw, ImportError if matplotlib is not installed, and OSError if the file cannot be written.
"""

from hyena.plots.curves import Point, draw_intervals, draw_learning, draw_lengths
from hyena.plots.filters import draw_filters
from hyena.plots.loss import draw_loss
from hyena.plots.positions import draw_positions
from hyena.plots.scaling import Measured, draw_scaling

__all__ = [
    "Measured",
    "Point",
    "draw_filters",
    "draw_intervals",
    "draw_learning",
    "draw_lengths",
    "draw_loss",
    "draw_positions",
    "draw_scaling",
]
