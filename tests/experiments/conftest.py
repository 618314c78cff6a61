"""No test here cuts the power, so that none has to wait for the disk."""

import os

import pytest


@pytest.fixture(autouse=True)
def no_power_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves what is written to the page cache, which a killed process does not take with it."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
