"""Sweeps that take a moment, and how to compare what they leave."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from hyena.experiments.jobs import FAILED, LOG
from hyena.scaling import Family, Result, ScalingConfig, Size
from hyena.scaling.cell import run_cell
from hyena.scaling.hours import measure

DO: dict[str, Callable[[Any], int]] = {
    "hyena.scaling.cell.work": run_cell,
    "hyena.scaling.hours.work": measure,
}


class Here:
    """A job that is done in this process, with what a process of its own would leave behind."""

    def __init__(self, folder: Path, work: str, request: object, *, threads: int | None) -> None:
        self.stdin, self.returncode = io.BytesIO(), 0
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FAILED).unlink(missing_ok=True)
        with open(folder / LOG, "a") as log:
            try:
                DO[work](request)
            except (ValueError, RuntimeError) as error:
                print(f"error: {error}", file=log)
                self.returncode = 1

    def poll(self) -> int:
        return self.returncode

    wait = communicate = poll


def small(data: Path, out: Path, **changes: Any) -> ScalingConfig:
    """Two families with two trials each, two sizes, two budgets."""
    families = [
        Family(
            "Hyena",
            {"model": {"mixers": "hyena", "filter": {"width": 4, "emb_dim": 3, "depth": 2}}},
            [{"optimizer.lr": 1e-2}, {"optimizer.lr": 3e-3}],
        ),
        Family(
            "attention",
            {"model.mixers": "attention", "model.head_dim": 4},
            [{"optimizer.lr": 1e-2}, {"optimizer": {"lr": 3e-3}}],
        ),
    ]
    base = {
        "model": {"vocab_size": 257, "max_length": 16, "mlp_width": 16},
        "batch": 4,
        "accelerator": "cpu",
        "evaluation": {"batches": 2},
    }
    fields: dict[str, Any] = {
        "out": out,
        "data": data,
        "families": families,
        "sizes": [Size(8, 2), Size(8, 1)],
        "tokens_per_parameter": [0.5, 0.25],
        "tuning_tokens_per_parameter": 0.2,
        "most_epochs": 100,
        "base": base,
        "threads": 1,
    }
    return ScalingConfig(**{**fields, **changes})


def timeless(result: Result) -> Result:
    """The record without what the clock says, and without the place of the cell."""
    curve = [{**point, "seconds": 0} for point in result.curve]
    return replace(result, curve=curve, seconds=0.0, settings={**result.settings, "out": ""})
