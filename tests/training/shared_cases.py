"""What each rank does for `test_shared_runs`."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tiny_runs import tiny_config

from hyena.training import CheckpointConfig, EvaluationConfig, TrainConfig, train
from hyena.training.run import NextToken

STEPS = 4
WAYS: dict[str, dict[str, Any]] = {
    "shard": {"shard": 2},
    "context": {"context": 2},
    "both": {"shard": 2, "context": 2},
    "accumulated": {
        "shard": 2,
        "accumulate": 2,
        "evaluation": EvaluationConfig(every=3, batches=4),  # of half as many windows each
    },
    "recomputed": {"shard": 2, "context": 2, "activation_checkpointing": True},
    "odd": {"context": 2, "length": 15},
}


def config(data: Path, out: Path, **changes: Any) -> TrainConfig:
    checkpoint = CheckpointConfig(every=1, keep=9)
    options = {"steps": STEPS, "precision": "64", "checkpoint": checkpoint, **changes}
    return tiny_config(data, out, **options)


def shared(name: str, data: Path, folder: Path) -> None:
    """A whole run."""
    train(config(data, folder / name, devices=2, **WAYS[name]))


def half(data: Path, folder: Path, **changes: Any) -> None:
    """A run that stops on the way, or goes on."""
    train(config(data, folder / "halves", devices=2, **WAYS["both"], **changes))


def gone_on(way: str, data: Path, folder: Path) -> None:
    """A step of a run that others have begun, and others will go on with."""
    options = {"devices": 2, **WAYS.get(way, {}), "steps": STEPS + 1}
    train(config(data, folder / "moved", resume=True, stop_after=1, **options))


def failing(what: Callable[[], object]) -> Callable[[Path, Path], object]:
    """A run in whose third step the second process does something else."""

    def case(data: Path, folder: Path) -> object:
        computed = NextToken.loss

        def loss(self: NextToken, model: Any, part: Any, device: torch.device) -> torch.Tensor:
            found = computed(self, model, part, device)
            if os.environ["RANK"] == "1":
                steps.append(0)
                if len(steps) == 3:
                    return found * (what() or 1.0)
            return found

        steps: list[int] = []
        out = folder / f"failing {what.__name__}"
        NextToken.loss = loss  # type: ignore[method-assign]
        try:
            timeout = 3.0 if what is hangs else 60.0
            result = train(config(data, out, devices=2, shard=2, timeout=timeout))
        finally:
            NextToken.loss = computed  # type: ignore[method-assign]
        return f"signal {result.signal} after step {result.step}"

    return case


def nan() -> float:
    return math.nan


def stopped() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def hangs() -> None:
    time.sleep(4)


def dies() -> None:
    os._exit(0)


FAILING = {each.__name__: failing(each) for each in (nan, stopped, hangs, dies)}
CASES: dict[str, Callable[[Path, Path], object]] = {
    **{name: partial(shared, name) for name in WAYS},
    "the first half": partial(half, stop_after=2),
    "the second half": partial(half, resume=True),
    "moved to parts": partial(gone_on, "shard"),
    "moved to pieces": partial(gone_on, "context"),
    "moved to rows": partial(gone_on, "data"),
    **FAILING,
}
