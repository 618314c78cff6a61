"""Drawings as PNG files: loss and learning curves, learned filters, figures over lengths."""

from hyena.plots.filters import draw_filters
from hyena.plots.intervals import Point, draw_intervals
from hyena.plots.learning import draw_learning
from hyena.plots.lengths import draw_lengths
from hyena.plots.loss import draw_loss

__all__ = [
    "Point",
    "draw_filters",
    "draw_intervals",
    "draw_learning",
    "draw_lengths",
    "draw_loss",
]
