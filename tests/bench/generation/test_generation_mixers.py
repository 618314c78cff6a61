"""Mixers that generate: each does what its forward pass would."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hyena.bench.generation import mixers
from hyena.bench.generation.baselines import CachedDotProduct
from hyena.bench.generation.cases import Case
from hyena.bench.generation.mixers import (
    build_attention,
    build_operator,
    fill_cache,
    full_attention,
    mixer_courses,
    prefill,
    random_inputs,
)
from hyena.bench.generation.run import measure
from hyena.mixers import HyenaOperator

MIXERS = ("hyena", "distilled", "attention", "dot", "full")
PLANNED = Case("planned", MIXERS, 3, 40, tokens=150, width=8, repeats=1)
GROWN = replace(PLANNED, kind="grown", context=150, tokens=10)


def times_of(row: Case) -> dict:
    return measure(row, seconds=1e-6)


@pytest.mark.parametrize("row", [PLANNED, GROWN], ids=["planned", "grown"])
def test_every_mixer_is_checked_and_timed(row: Case) -> None:
    found = times_of(row)
    assert "failed" not in found
    assert set(found["times"]) == set(found["errors"]) == set(MIXERS)
    assert max(found["errors"].values()) < 1e-5
    assert set(found["held"]) == set(MIXERS) - {"full"}
    tokens = {name: times["tokens"] for name, times in found["times"].items()}
    every = 150
    few = min(row.tokens, 32)
    assert tokens == {
        "hyena": every,
        "dot": few if row is PLANNED else every,
        **dict.fromkeys(("distilled", "attention"), few),
        "full": 2,
    }


@pytest.mark.parametrize("wrong", [1.001, float("nan")])
def test_a_baseline_that_is_wrong_is_left_out_alone(
    wrong: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = CachedDotProduct.step

    def step(self: CachedDotProduct, u: Tensor, state: object) -> tuple[Tensor, object]:
        y, state = right(self, u, state)  # type: ignore[arg-type]
        return wrong * y, state

    monkeypatch.setattr(CachedDotProduct, "step", step)
    found = times_of(PLANNED)
    assert set(found["times"]) == set(MIXERS) - {"dot"}
    assert set(found["held"]) == set(MIXERS) - {"full", "dot"}
    assert found["errors"].keys() >= {"hyena", "dot"}
    (said,) = found["skipped"].items()
    assert said[0] == "dot"
    assert said[1].startswith("its tokens differ from the full forward pass in float64 by ")


def test_one_wrong_token_among_many_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    right = HyenaOperator.step

    def step(self: HyenaOperator, u: Tensor, state: object) -> tuple[Tensor, object]:
        y, state = right(self, u, state)  # type: ignore[arg-type]
        return y + 1e-2 * (state.length == 120), state  # type: ignore[attr-defined]

    monkeypatch.setattr(HyenaOperator, "step", step)
    assert times_of(replace(GROWN, contenders=("hyena",)))["failed"].startswith("hyena: ")


def test_a_filled_cache_is_that_of_a_prefill_and_can_be_taken_back() -> None:
    mixer, u = build_attention(8), random_inputs(2, 12, 8)
    with torch.no_grad():
        whole = mixer(u)
        _, expected = mixer.prefill(u[:, :10])
        start = fill_cache(mixer, u[:, :10], 2)
        torch.testing.assert_close(start.tensors(), expected.tensors())
        for _ in range(2):
            state = start.rewound(10)
            for t in (10, 11):
                y, state = mixer.step(u[:, t], state)
                torch.testing.assert_close(y, whole[:, t])
            assert state.capacity == 12
            assert start.length == 10
            assert state.k.data_ptr() == start.k.data_ptr()  # a cache may take half of the memory


def test_attention_by_definition_is_its_forward_pass() -> None:
    mixer, u = build_attention(8).double(), random_inputs(2, 70, 8)
    with torch.no_grad():
        torch.testing.assert_close(full_attention(mixer, u, 30), mixer(u.double())[:, 30:])


def test_rows_are_filled_one_by_one() -> None:
    operator, u = build_operator(8, 20), random_inputs(3, 12, 8)
    with torch.no_grad():
        one_by_one = prefill(operator, u, 8).tensors()
        torch.testing.assert_close(one_by_one, operator.prefill(u, future=8)[1].tensors())


@pytest.mark.parametrize("short_width", [1, 2, 3])
def test_cached_dot_products_are_the_operator(short_width: int) -> None:
    operator = HyenaOperator(6, 40, short_width=short_width, dtype=torch.float64).eval()
    mixer, u = CachedDotProduct(operator, 40), random_inputs(2, 40, 6).double()
    with torch.no_grad():
        whole, start = operator(u), mixer.prefill(u[:, :1])
        for _ in range(2):  # from the same start again
            state = start.rewound()
            for t in range(1, 40):
                y, state = mixer.step(u[:, t], state)
                torch.testing.assert_close(y, whole[:, t], rtol=1e-10, atol=1e-10)


def test_cached_dot_products_are_of_order_2() -> None:
    with pytest.raises(ValueError, match="of order 2, got order 3, bidirectional=False"):
        CachedDotProduct(HyenaOperator(4, 8, 3), 8)


def test_growth_goes_to_each_length() -> None:
    row = Case("growth", ("L=70", "L=140"), 1, 140, tokens=1, width=8, repeats=1)
    found = times_of(row)
    assert "failed" not in found
    tokens = {name: times["tokens"] for name, times in found["times"].items()}
    assert tokens == {"L=70": 70, "L=140": 140}
    assert {course.fewest for course in mixer_courses(row).values()} == {None}


@pytest.mark.parametrize("courses", [mixer_courses, lambda row: times_of(row)["failed"]])
def test_an_unknown_mixer_is_an_error(courses: Callable[[Case], object]) -> None:
    row = replace(PLANNED, contenders=("mamba",))
    if courses is mixer_courses:
        with pytest.raises(ValueError, match="full, but not mamba"):
            courses(row)
    else:
        assert "but not mamba" in str(courses(row))


def test_dot_products_of_long_contexts_are_of_some_tokens_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mixers, "SUMMED", 100)
    course = mixer_courses(replace(GROWN, contenders=("dot",)))["dot"]
    assert (course.tokens, course.fewest) == (10, 32)
