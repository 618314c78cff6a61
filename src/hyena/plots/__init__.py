"""Drawings as PNG files: a run's loss curve, a model's learned filters, figures over lengths."""

from hyena.plots.filters import draw_filters
from hyena.plots.lengths import draw_lengths
from hyena.plots.loss import draw_loss

__all__ = ["draw_filters", "draw_lengths", "draw_loss"]
