"""Why filters are easy or hard to distil, as a picture."""

from pathlib import Path

import numpy as np

from hyena.distillation.distill import Distilled
from hyena.plots.figure import new_figure, save_png

_FLOOR = 1e-6  # of the values drawn


def draw_distillation(
    distilled: Distilled, path: str | Path, *, tolerance: float | None = None
) -> Path:
    """Draws, for each layer, the Hankel singular values and the errors of its filters.

    Args:
        distilled: what `distill` returned.
        path: the PNG to write.
        tolerance: to be marked, if there was one.

    Returns: ``path``.
    Raises: ImportError if matplotlib is not installed; OSError if the file cannot be written.
    """
    layers = distilled.layers
    figure = new_figure(11, 0.6 + 2.6 * len(layers))
    panels = figure.subplots(len(layers), 2, squeeze=False)
    for layer, (left, right) in zip(layers, panels, strict=True):
        values = np.maximum(layer.fit.singular_values.numpy(), _FLOOR)
        index = np.arange(1, values.shape[1] + 1)
        low, middle, high = np.quantile(values, [0.1, 0.5, 0.9], axis=0)
        left.fill_between(index, low, high, alpha=0.3, label="10% to 90% of the filters")
        left.plot(index, middle, label="median")
        left.plot(index, values.max(axis=0), linewidth=0.8, label="largest")
        left.axvline(distilled.order, color="black", linestyle=":", label="state")
        left.set(title=f"layer {layer.block}", xlabel="i", ylabel="Hankel value σᵢ / σ₁")
        error = np.maximum(layer.error.flatten().numpy(), _FLOOR)
        right.plot(error, ".", markersize=3, label="error")
        bound = np.maximum(layer.fit.bound.numpy(), _FLOOR)
        right.plot(bound, ".", markersize=3, label="no recurrence of the order is nearer")
        if tolerance is not None:
            right.axhline(tolerance, color="black", linestyle=":", label="tolerance")
        right.set(title=f"layer {layer.block}", xlabel="filter", ylabel="relative error")
        for panel in (left, right):
            panel.set_yscale("log")
            panel.legend(fontsize="x-small")
    return save_png(figure, path)
