"""Pictures of the long filters that a model has learned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hyena.filters import HyenaFilter, LongFilter
from hyena.plots.figure import new_figure, save_png

DECADES = 4  # range of magnitudes in the heat map, below the largest one
SAMPLES = 4  # curves drawn beside it


def draw_filters(model: nn.Module, path: str | Path, *, length: int | None = None) -> Path:
    """Draws the filters of each Hyena layer: magnitudes over (channel, tap), and a few curves.

    A layer of order N has N − 1 rows, one a long convolution.

    Args:
        model: any module with `HyenaFilter` or `LongFilter` modules inside.
        path: the PNG to write.
        length: L, the input length to draw them for; none takes each filter's max_length.

    Returns, Raises: see `hyena.plots`; ValueError also if the length policy refuses ``length``.
    """
    rows = []
    for name, module in model.named_modules():
        if isinstance(module, HyenaFilter | LongFilter):
            h = taps(module, module.max_length if length is None else length)
            suffix = [f", {i + 1} of {len(h)}" if len(h) > 1 else "" for i in range(len(h))]
            rows += [(name + which, one) for which, one in zip(suffix, h, strict=True)]
    if not rows:
        raise ValueError(
            "a picture of the filters was asked for, but the model has no HyenaFilter or LongFilter"
        )
    figure = new_figure(11, 0.6 + 2.4 * len(rows))
    panels = figure.subplots(len(rows), 2, squeeze=False)
    for (name, h), (left, right) in zip(rows, panels, strict=True):  # h: (D, lags)
        top = max(float(np.abs(h).max()), 1e-30)
        magnitude = np.log10(np.maximum(np.abs(h) / top, 10.0**-DECADES))
        image = left.imshow(magnitude, aspect="auto", cmap="magma", vmin=-DECADES, vmax=0)
        figure.colorbar(image, ax=left, label="log10 |h| / max")
        left.set(title=name, xlabel="tap", ylabel="channel")
        for channel in np.unique(np.linspace(0, len(h) - 1, SAMPLES).round().astype(int)):
            right.plot(h[channel], linewidth=0.8, label=f"channel {channel}")
        right.set(title=name, xlabel="tap", ylabel="h")
        right.legend(fontsize="small")
    return save_png(figure, path)


def taps(module: HyenaFilter | LongFilter, length: int) -> NDArray[np.float64]:
    """The impulse responses h of a filter module as an (F, D, L) array.

    Bidirectional ones have 2L − 1 taps, with lag 0 in the middle.
    """
    with torch.no_grad():
        h = module(length)
    return np.asarray(h.double().cpu().numpy())
