"""Ranks that share rows find what one process finds of the whole rows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from comparison import assert_close, relative_error
from context_cases import IN_GROUPS
from cut_models import (
    PROMPTS,
    SHARED,
    Found,
    given,
    inputs_of,
    loss_and_gradients,
    model_of,
    prompt_and_steps,
)
from ranks import RANKS, run_ranks

from hyena.distributed import operators
from hyena.mixers import HyenaOperator

Ranks = list[dict[str, Any]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Ranks:
    return run_ranks("context_cases", tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("name", SHARED)
def test_loss_and_gradients_are_those_of_one_process(found: Ranks, name: str) -> None:
    exact = loss_and_gradients(SHARED[name], torch.float64, cut=False)
    for rank in found:
        assert not isinstance(rank[name], str), rank[name]
        assert rank[name]["torch.float64"].keys() == exact.keys()
        for key, wanted in exact.items():
            got = rank[name]["torch.float64"][key]
            if wanted.any():
                assert_close(got, wanted, 1e-12)
            else:  # of a part that plays no role
                assert not got.any(), key


@pytest.mark.parametrize("name", [name for name, case in SHARED.items() if case.single])
def test_float32_is_no_further_off_than_twice_one_process(found: Ranks, name: str) -> None:
    """All gradients together, and on two ranks each; the more ranks, the more sums of parts there
    are, and one tensor of one process may be closer by chance."""
    exact = loss_and_gradients(SHARED[name], torch.float64, cut=False)
    rounded = loss_and_gradients(SHARED[name], torch.float32, cut=False)
    together = relative_error(flat(rounded), flat(exact))
    for rank in found:
        got = {key: rank[name]["torch.float32"][key] for key in exact}
        assert relative_error(flat(got), flat(exact)) <= 2 * together
        for key, wanted in exact.items():
            most = RANKS * max(relative_error(rounded[key], wanted), together)
            assert_close(got[key], wanted, most, dtype=torch.float32)


@pytest.mark.parametrize("name", IN_GROUPS)
def test_blocks_that_go_back_by_groups_of_channels(found: Ranks, name: str) -> None:
    expected = loss_and_gradients(SHARED[name], torch.float64, cut=False)
    for rank in found:
        got = rank[f"in groups {name}"]
        assert not isinstance(got, str), got
        assert got.pop("calls") == 2 * IN_GROUPS[name]  # forward, and anew
        assert got.keys() == expected.keys()
        for key, wanted in expected.items():
            if wanted.any():
                assert_close(got[key], wanted, 1e-12)
            else:
                assert not got[key].any(), key


def test_rows_that_are_read_by_groups_of_channels(found: Ranks) -> None:
    inputs = inputs_of(SHARED["padding"])
    del inputs["targets"]
    expected = model_of(SHARED["padding"]).eval()(**inputs)
    each = [rank["read in groups"] for rank in found]
    assert [rank["calls"] for rank in each] == [1] * RANKS
    got = torch.cat([rank["logits"] for rank in each], dim=1)
    assert_close(got[inputs["mask"]], expected.detach()[inputs["mask"]], 1e-12)


def test_some_channels_are_those_of_the_whole_rows(found: Ranks) -> None:
    for rank in found:
        assert all(rank["some channels"].values()), rank["some channels"]


def flat(found: Found) -> torch.Tensor:
    return torch.cat([x.double().flatten() for x in found.values()])


@pytest.mark.parametrize("name", PROMPTS)
def test_a_prompt_leaves_the_state_of_one_process_on_each(found: Ranks, name: str) -> None:
    expected = prompt_and_steps(PROMPTS[name], cut=False)
    each = [rank[f"prompt {name}"] for rank in found]
    for rank in each:
        assert not isinstance(rank, str), rank
        assert rank.keys() == expected.keys()
        for key, wanted in expected.items():
            if key == "logits" and "last_only" not in PROMPTS[name].options:
                continue
            if wanted.dtype == torch.bool or not wanted.any():
                assert torch.equal(rank[key], wanted), key
            else:
                assert_close(rank[key], wanted, 1e-12)
    if "last_only" not in PROMPTS[name].options:
        assert_close(torch.cat([rank["logits"] for rank in each], 1), expected["logits"], 1e-12)


@pytest.mark.parametrize("order", [2, 3])
def test_a_rank_sends_what_the_long_convolutions_need(found: Ranks, order: int) -> None:
    """There and back, all channels but its own part, in float32; gates stay where they are."""
    least = 2 * (order - 1) * 12 * 4 * (RANKS - 1) / RANKS
    for rank in found:
        sent = rank[f"bytes {order}"]
        assert least <= sent["bytes"] <= 1.05 * least
        assert set(sent["others"]) <= {
            "c10d.allgather_",
            "_c10d_functional._wrap_tensor_autograd",
        }


def test_losses_of_tokens_are_those_of_one_process(found: Ranks) -> None:
    case = SHARED["order 3"]
    expected = model_of(case).eval().token_losses(**given(case, cut=False))
    assert_close(torch.cat([rank["token_losses"] for rank in found], 1), expected, 1e-12)


def test_data_parallel_training_takes_the_mean(found: Ranks) -> None:
    expected = loss_and_gradients(SHARED["order 2"], torch.float64, cut=False)
    del expected["loss"]
    for rank in found:
        for name, gradient in expected.items():
            assert_close(rank["data_parallel"][name], gradient, 1e-12)


def test_an_exchange_gives_what_it_says(found: Ranks) -> None:
    for rank in found:
        assert all(rank["exchanged"].values()), rank["exchanged"]
        assert rank["twice"] == {"once": True, "twice": True}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("disagreeing", "the processes disagree on targets: [0, 1"),
        ("settings", "the processes disagree on working_memory: [0, 1"),
        ("gap", "expected padding at the ends of each row or packed document"),
        ("segments", "expected document_ids as a tensor (B, L) of the piece"),
        ("state", "expected no state beside context, got both"),
        ("too long", "the input is 60 tokens long but the model's max_length is 48"),
        ("too short", "expected one position or more on each process, got pieces of [1, "),
        ("others", "blocks.1.mixer is a RWKV, along which rows cannot be cut"),
        ("few channels", f"{RANKS} processes for the {RANKS - 1} channels of blocks.0.mixer"),
        ("two dimensions", "expected a mesh of one dimension, got 2 of names ('data', 'context')"),
    ],
)
def test_what_cannot_be_is_refused_on_every_rank(found: Ranks, name: str, message: str) -> None:
    for rank in found:
        assert message in rank[name]
        assert "\n" not in rank[name]


def test_what_one_rank_refuses_ends_all(found: Ranks) -> None:
    *others, last = [rank["wrong token"] for rank in found]
    assert "token id 17 is outside the vocabulary of 17" in last
    for rank in others:
        assert f"process {RANKS - 1} of {RANKS} refused what it was given, and says why" in rank


def test_a_bidirectional_operator_is_refused() -> None:
    op = HyenaOperator(4, 8, bidirectional=True)
    with pytest.raises(ValueError, match="mixer is a HyenaOperator with bidirectional=True, along"):
        operators.check("mixer", op, 2)
