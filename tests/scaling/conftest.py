"""Data of tiny sweeps, and their cells in the tests' own process."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from small_sweeps import Here

from hyena.data import PrepareConfig, prepare
from hyena.experiments import executors


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared bytes of short documents, with some for validation and for the test."""
    folder = tmp_path_factory.mktemp("text")
    (folder / "texts").mkdir()
    generator = np.random.default_rng(0)
    for i in range(24):
        words = generator.choice(["a", "bc", "def", "gh i"], 20)
        (folder / "texts" / f"{i:02d}.txt").write_text(" ".join(words))
    source = str(folder / "texts")
    prepare(PrepareConfig(source=source, out=folder / "data", validation=0.2, test=0.2))
    return folder / "data"


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """No processes: they take seconds to start."""
    monkeypatch.setattr(executors, "start_job", Here)


@pytest.fixture(autouse=True)
def no_power_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test here cuts the power, so that none has to wait for the disk."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
