"""The loss curve of a training run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hyena.plots.figure import new_figure, save_png


def draw_loss(
    records: Sequence[Mapping[str, float]], path: str | Path, *, unit: str = "nats per token"
) -> Path:
    """Draws the training and validation loss against the tokens seen.

    Args:
        records: the lines of a run's metrics.jsonl, each with "tokens" (seen so far), and with
            "loss", "validation_loss" or both.
        path: the PNG to write.
        unit: of the losses.

    Returns, Raises: see `hyena.plots`.
    """
    curves = {name: _curve(records, name) for name in ("loss", "validation_loss")}
    if not any(len(tokens) for tokens, _ in curves.values()):
        raise ValueError("a loss curve was asked for, but no step of the run has been recorded")
    figure = new_figure(7, 4.5)
    axes = figure.add_subplot()
    tokens, loss = curves["loss"]
    if len(tokens):
        axes.plot(tokens, loss, color="C0", alpha=0.3, linewidth=0.8)
        axes.plot(tokens, running_mean(loss), color="C0", label="training (running mean)")
    tokens, loss = curves["validation_loss"]
    if len(tokens):
        axes.plot(tokens, loss, color="C1", marker="o", markersize=3, label="validation")
    axes.set_xlabel("tokens")
    axes.set_ylabel(f"loss ({unit})")
    axes.grid(alpha=0.3)
    axes.legend()
    return save_png(figure, path)


def running_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of each value and up to 2% of the series before it; (n,) to (n,)."""
    n = len(values)
    span = max(1, n // 50)
    total = np.concatenate([[0.0], np.cumsum(values)])
    end = np.arange(1, n + 1)
    start = np.maximum(0, end - span)
    mean: NDArray[np.float64] = (total[end] - total[start]) / (end - start)
    return mean


def _curve(
    records: Sequence[Mapping[str, float]], name: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if not isinstance(records, Sequence) or not all(
        isinstance(record, Mapping) and "tokens" in record for record in records
    ):
        raise ValueError('draw_loss: expected records {"tokens": …, "loss": …}, got others')
    found = [(record["tokens"], record[name]) for record in records if name in record]
    pairs = np.array(found, dtype=float).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]
