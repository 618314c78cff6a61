"""Cells that train in a moment."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from hyena.experiments import CellConfig, Measurement, Result, TaskTraining
from hyena.experiments.cell import OF_TASK, Stage, plain
from hyena.model import FilterConfig, ModelConfig
from hyena.tasks import TaskConfig, build_task

TRAINING: dict[str, Any] = {
    "steps": 6,
    "batch": 4,
    "evaluate_every": 2,
    "validation_sequences": 8,
    "test_sequences": 8,
    "warmup_steps": 2,
}
MODEL: dict[str, Any] = {
    "vocab_size": OF_TASK,
    "max_length": OF_TASK,
    "width": 8,
    "layers": 1,
    "mlp_width": 8,
}


def cell(out: Path, **changes: Any) -> CellConfig:
    """A tiny cell; ``task``, ``model`` and ``training`` are dicts of fields to change."""
    task = TaskConfig(**{"length": 8, "vocab_size": 6, **changes.pop("task", {})})
    filter = FilterConfig(emb_dim=3, width=4, depth=2)
    model = ModelConfig(**{**MODEL, "filter": filter, **changes.pop("model", {})})
    training = {**TRAINING, **changes.pop("training", {})}
    if "stages" in training:
        training["stages"] = [Stage(*stage) for stage in training["stages"]]
    return CellConfig(out, task, model, TaskTraining(**training), **changes)


def weights(config: CellConfig) -> dict[str, torch.Tensor]:
    """What the cell's checkpoint holds: weights and moments."""
    (folder,) = (config.out / "checkpoints").iterdir()
    moments = load_file(folder / "optimizer.safetensors")
    return {**load_file(folder / "model.safetensors"), **moments}


def differing(one: CellConfig, other: CellConfig) -> list[str]:
    """The names of weights and moments in which two cells differ by a bit."""
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys()
    return [name for name in a if not torch.equal(a[name], b[name])]


def timeless(result: Result | None) -> Result:
    """The record without what the clock says, and without the place of the cell."""
    assert result is not None
    curve = [{**point, "seconds": 0} for point in result.curve]
    config = {**result.config, "out": ""}
    nothing: dict[str, Any] = {"minutes": 0, "total_minutes": 0, "command": ""}
    return replace(result, curve=curve, config=config, **nothing)


def record(
    config: CellConfig, values: list[float], *, test: float | None = None, **changes: Any
) -> Result:
    """A record as `run_cell` might have written it; values on validation sequences, every 10
    steps."""
    curve = [
        {
            "step": 10 * i,
            "length": build_task(config.task).length,
            "tokens": 1000 * i,
            "seconds": float(i),
            "loss": 1.0,
            "value": value,
        }
        for i, value in enumerate(values, start=1)
    ]
    value = values[-1] if test is None else test
    fields: dict[str, Any] = {
        "config": plain(config),
        "command": "hyena tasks run",
        "versions": {},
        "machine": {},
        "threads": 1,
        "parameters": 123,
        "steps": 10 * len(values),
        "tokens": 1000 * len(values),
        "minutes": 0.5,
        "total_minutes": 0.6,
        "stopped": "steps",
        "curve": curve,
        "test": Measurement("accuracy", value, (value / 2, (1 + value) / 2), 100, {}),
    }
    return Result(**{**fields, **changes})
