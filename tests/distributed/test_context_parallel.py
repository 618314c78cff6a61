"""Ranks that share rows find what one process finds of the whole rows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from comparison import assert_close, relative_error
from cut_models import SHARED, loss_and_gradients
from ranks import run_ranks


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return run_ranks("context_cases", tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("name", SHARED)
def test_loss_and_gradients_are_those_of_one_process(
    found: list[dict[str, Any]], name: str
) -> None:
    exact = loss_and_gradients(SHARED[name], torch.float64, cut=False)
    rounded = loss_and_gradients(SHARED[name], torch.float32, cut=False)
    for rank in found:
        assert not isinstance(rank[name], str), rank[name]
        double, single = rank[name]["torch.float64"], rank[name]["torch.float32"]
        assert double.keys() == single.keys() == exact.keys()
        for key, wanted in exact.items():
            if not wanted.any():  # nothing to compare with, so nothing may be there
                assert not double[key].any(), key
                continue
            assert_close(double[key], wanted, 1e-12)
            most = 2 * relative_error(rounded[key], wanted) + 2 * torch.finfo(torch.float32).eps
            assert_close(single[key], wanted, most, dtype=torch.float32)
