"""Tiny training runs that take a fraction of a second each, and how to compare them."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from hyena.model import ModelConfig
from hyena.training import CheckpointConfig, EvaluationConfig, TrainConfig

MakeConfig = Callable[..., TrainConfig]


def tiny_config(data: Path, out: Path, **changes: Any) -> TrainConfig:
    """A run of six steps; ``model`` is a dict of changes to the model."""
    model = ModelConfig(
        vocab_size=257,
        width=8,
        layers=2,
        mlp_width=16,
        mixers="hyena,attention",
        head_dim=4,
        max_length=16,
    )
    model = dataclasses.replace(model, **changes.pop("model", {}))
    config = TrainConfig(
        data=data,
        out=out,
        model=model,
        steps=6,
        batch=4,
        accelerator="cpu",
        evaluation=EvaluationConfig(every=3, batches=2),
        checkpoint=CheckpointConfig(every=2),
    )
    config.optimizer.lr = 1e-2
    return dataclasses.replace(config, **changes)


def tensors(checkpoint: Path) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint: weights and optimizer state."""
    found: dict[str, torch.Tensor] = {}
    for file in ("model.safetensors", "optimizer.safetensors"):
        found |= {f"{file}:{name}": value for name, value in load_file(checkpoint / file).items()}
    return found


def differing(a: Path, b: Path) -> list[str]:
    """Names of the tensors in which two checkpoints differ by a bit or more."""
    left, right = tensors(a), tensors(b)
    assert left.keys() == right.keys()
    return [name for name, value in left.items() if not torch.equal(value, right[name])]


def run_script(script: str, *arguments: object, folder: Path, timeout: float = 600) -> str:
    """Run Python code as a program of its own; returns what it printed, fails if it fails."""
    path = folder / "script.py"
    path.write_text(script)
    tests = Path(__file__).parent
    search = os.pathsep.join([str(tests), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    done = subprocess.run(
        [sys.executable, str(path), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": search, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
