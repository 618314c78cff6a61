"""A step of training on a long row takes the less memory on each rank, the more ranks share it."""

from __future__ import annotations

from pathlib import Path

import pytest
from ranks import RANKS, run_ranks

from hyena.ops.native import library

LOADED = 16 * 2**20  # what PyTorch and gloo take at their first calls of this size


def test_a_rank_takes_its_share(tmp_path: Path) -> None:
    if library.kernel() is None:
        pytest.skip(f"PyTorch's FFT takes more: {library.why_not()}")
    found = {}
    for ranks in (1, RANKS):
        folder = tmp_path / str(ranks)
        folder.mkdir()
        each = [rank["step"] for rank in run_ranks("memory_cases", folder, ranks)]
        if any(isinstance(peak, str) for peak in each):
            pytest.skip(f"this system does not say how much memory a process takes: {each[0]}")
        found[ranks] = max(each)
    assert found[RANKS] < (1 / RANKS + 0.05) * found[1] + LOADED, found
