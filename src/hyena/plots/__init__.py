"""Drawings as PNG files: a run's loss curve and a model's learned filters."""

from hyena.plots.filters import draw_filters
from hyena.plots.loss import draw_loss

__all__ = ["draw_filters", "draw_loss"]
