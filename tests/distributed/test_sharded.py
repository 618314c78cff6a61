"""A model of which each rank keeps a part of every parameter finds what the whole model finds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from comparison import assert_close, relative_error
from cut_models import PROMPTS, SHARED, Found, loss_and_gradients, model_of, prompt_and_steps
from ranks import RANKS, run_ranks
from sharded_cases import BYTES, CUT, TRAINED, used

Ranks = list[dict[str, Any]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Ranks:
    return run_ranks("sharded_cases", tmp_path_factory.mktemp("ranks"))


def assert_equal(got: Found, expected: Found) -> None:
    assert not isinstance(got, str), got
    assert got.keys() == expected.keys()
    for name, wanted in expected.items():
        if wanted.dtype == torch.bool or not wanted.any():
            assert torch.equal(got[name], wanted), name
        else:
            assert_close(got[name], wanted, 1e-12)


@pytest.mark.parametrize("name", [*TRAINED, "kept whole"])
def test_gradients_are_those_of_all_rows_in_one_process(found: Ranks, name: str) -> None:
    case = SHARED["order 3" if name == "kept whole" else name]
    expected = loss_and_gradients(case, torch.float64, cut=False, rows=RANKS)
    del expected["loss"]  # of a rank it is that of its rows
    for rank in found:
        assert not isinstance(rank[name], str), rank[name]
        assert_equal({n: x for n, x in rank[name].items() if n != "loss"}, expected)
    mean = torch.stack([rank[name]["loss"] for rank in found]).mean()
    assert_close(mean, loss_and_gradients(case, torch.float64, False, RANKS)["loss"], 1e-12)


@pytest.mark.parametrize("name", CUT)
def test_rows_that_are_cut_over_the_same_ranks(found: Ranks, name: str) -> None:
    for rank in found:
        assert_equal(rank[f"cut {name}"], loss_and_gradients(SHARED[name], torch.float64, False))


@pytest.mark.parametrize("name", PROMPTS)
def test_a_prompt_and_steps(found: Ranks, name: str) -> None:
    for rank in found:
        assert_equal(rank[f"prompt {name}"], prompt_and_steps(PROMPTS[name], cut=False))


def test_a_prompt_that_is_cut_over_the_same_ranks(found: Ranks) -> None:
    expected = prompt_and_steps(PROMPTS["planned"], cut=False)
    logits = torch.cat([rank["cut prompt planned"]["logits"] for rank in found], dim=1)
    for rank in found:
        assert_equal({**rank["cut prompt planned"], "logits": logits}, expected)


def test_generate_evaluate_and_score(found: Ranks) -> None:
    expected = used(model_of(BYTES))
    for rank in found:
        assert not isinstance(rank["used"], str), rank["used"]
        assert rank["used"]["generated"] == expected["generated"]
        for name in ("evaluated", "scored"):
            assert rank["used"][name] == pytest.approx(expected[name], rel=1e-12)
        assert_close(rank["used"]["after a block"], expected["after a block"], 1e-12)
        for got, wanted in zip(rank["used"]["embedded"], expected["embedded"], strict=True):
            assert_close(got, wanted, 1e-12)


def test_a_model_that_was_saved_is_whole(found: Ranks) -> None:
    for rank in found:
        assert rank["saved"] is True
        assert "call hyena.distributed.save(model, folder)" in rank["saved by the model"]


def test_mixed_precision_keeps_gradients_in_float32(found: Ranks) -> None:
    expected = loss_and_gradients(SHARED["hybrid"], torch.float64, False, RANKS)["loss"]
    for rank in found:
        assert rank["narrow"]["dtypes"] == ["torch.float32"]
        assert rank["narrow"]["loss"].dtype == torch.float32
    mean = torch.stack([rank["narrow"]["loss"] for rank in found]).mean()
    assert 1e-6 < relative_error(mean, expected) < 0.05  # bfloat16 has three digits
