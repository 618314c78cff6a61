"""Data and configurations of tiny training runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_runs import MakeConfig, tiny_config

from hyena.data import PrepareConfig, prepare
from hyena.training import TrainConfig


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared bytes of short documents, so that windows hold document boundaries."""
    folder = tmp_path_factory.mktemp("text")
    texts = folder / "texts"
    texts.mkdir()
    generator = np.random.default_rng(0)
    for i in range(20):
        words = generator.choice(["a", "bc", "def", "gh i"], 20)
        (texts / f"{i:02d}.txt").write_text(" ".join(words))
    prepare(PrepareConfig(source=str(texts), out=folder / "data"))
    return folder / "data"


@pytest.fixture
def make(data: Path, tmp_path: Path) -> MakeConfig:
    """Makes tiny configurations; ``out`` is a name in a fresh folder."""

    def configure(out: str = "run", **changes: Any) -> TrainConfig:
        return tiny_config(changes.pop("data", data), tmp_path / out, **changes)

    return configure


@pytest.fixture(autouse=True)
def no_power_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test here cuts the power, so that none has to wait for the disk."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
