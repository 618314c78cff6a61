"""Filters long enough to be computed by parts, their sines recomputed in the backward pass."""

from typing import Any

import pytest
import torch
from comparison import assert_all_close, assert_close
from formula import filter_at
from torch import Tensor

from hyena.filters import HyenaFilter, network, parts

M = 1100  # max_length
OPTIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "shifted, order 3": {"shift": 0.05, "filters": 2},
    "trained decays": {"train_decay": True},
    "no window": {"window": False},
    "normalized": {"normalized": True},
    "table": {"train_encoding": True},
    "two-sided": {"bidirectional": True},
}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART_ELEMENTS", 1)
    monkeypatch.setattr(network, "VALUES_BYTES", 0)


def make(**options: Any) -> HyenaFilter:
    return HyenaFilter(3, M, dtype=torch.float64, **{"emb_dim": 5, "width": 6, **options})


@pytest.fixture(params=OPTIONS.values(), ids=OPTIONS)
def filter(request: pytest.FixtureRequest, small_parts: None) -> HyenaFilter:
    return make(**request.param)


def gradients(filter: HyenaFilter) -> list[Tensor]:
    h = filter(M)
    dh = torch.randn(h.shape, generator=torch.Generator().manual_seed(1), dtype=h.dtype)
    trained = [p for n, p in filter.named_parameters() if p.requires_grad and n != "skip"]
    return [h, *torch.autograd.grad(h, trained, dh)]


def test_equals_the_formula(filter: HyenaFilter) -> None:
    start = 1 - M if filter.bidirectional else 0
    assert_close(filter(M), filter_at(filter, [float(n) for n in range(start, M)]), 1e-10)


def test_gradients_equal_those_in_one_go(
    filter: HyenaFilter, monkeypatch: pytest.MonkeyPatch
) -> None:
    got = gradients(filter)
    monkeypatch.undo()
    assert_all_close(got, gradients(filter), 1e-11)


def test_the_same_every_time(filter: HyenaFilter) -> None:
    for a, b in zip(gradients(filter), gradients(filter), strict=True):
        assert torch.equal(a, b)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize(
    "options",
    [
        {"shift": 0.05, "filters": 2, "train_decay": True, "normalized": True},
        {"train_encoding": True, "window": False},
        {"bidirectional": True},
    ],
    ids=["shifted, trained, normalized", "table without a window", "two-sided"],
)
def test_compiled(options: dict[str, Any]) -> None:
    filter = make(**options)
    compiled = torch.compile(filter, fullgraph=True, backend="aot_eager")
    assert_close(compiled(M), filter(M), 1e-11)
