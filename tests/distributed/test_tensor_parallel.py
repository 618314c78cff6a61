"""Ranks that share layers find what one process finds with the whole ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from comparison import assert_close, relative_error
from cut_models import Found, loss_and_gradients, model_of, prompt_and_steps
from ranks import RANKS, run_ranks
from tensor_cases import PROMPTS, TRAINED

Ranks = list[dict[str, Any]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Ranks:
    return run_ranks("tensor_cases", tmp_path_factory.mktemp("ranks"))


def assert_equal(got: Found | str, expected: Found) -> None:
    assert not isinstance(got, str), got
    assert got.keys() == expected.keys()
    for name, wanted in expected.items():
        if wanted.any():
            assert_close(got[name], wanted, 1e-12)
        else:
            assert not got[name].any(), name


@pytest.mark.parametrize("name", TRAINED)
def test_loss_and_gradients_are_those_of_one_process(found: Ranks, name: str) -> None:
    exact = loss_and_gradients(TRAINED[name], torch.float64, cut=False)
    first, *others = [rank[name] for rank in found]
    assert not isinstance(first, str), first
    assert_equal(first["torch.float64"], exact)
    for rank in others:
        assert torch.equal(rank["torch.float64"]["loss"], first["torch.float64"]["loss"])


@pytest.mark.parametrize("name", [name for name, case in TRAINED.items() if case.single])
def test_float32_is_no_further_off_than_twice_one_process(found: Ranks, name: str) -> None:
    """All gradients together; sums of parts may put one of few numbers off by up to three times."""
    exact = loss_and_gradients(TRAINED[name], torch.float64, cut=False)
    rounded = loss_and_gradients(TRAINED[name], torch.float32, cut=False)
    together = relative_error(flat(rounded), flat(exact))
    got = {key: found[0][name]["torch.float32"][key] for key in exact}
    assert relative_error(flat(got), flat(exact)) <= 2 * together
    for key, wanted in exact.items():
        most = 4 * max(relative_error(rounded[key], wanted), together)
        assert_close(got[key], wanted, most, dtype=torch.float32)


def flat(found: Found) -> torch.Tensor:
    return torch.cat([x.double().flatten() for x in found.values()])


@pytest.mark.parametrize("name", ["order 2", "hybrid"])
def test_a_rank_has_its_share_of_the_layers(found: Ranks, name: str) -> None:
    """But norms, what makes all filters, and the biases that are added once."""
    for rank in found:
        assert 1 / RANKS < rank[f"share of {name}"] < 1 / RANKS + 0.12


@pytest.mark.parametrize("name", ["order 3", "hybrid"])
@pytest.mark.parametrize("beside", ["cut rows", "sharded"])
def test_beside_another_dimension(found: Ranks, beside: str, name: str) -> None:
    expected = loss_and_gradients(TRAINED[name], torch.float64, cut=False)
    assert_equal(found[0][f"{beside}, {name}"], expected)


@pytest.mark.parametrize("name", PROMPTS)
def test_a_prompt_and_steps(found: Ranks, name: str) -> None:
    expected = prompt_and_steps(PROMPTS[name], cut=False)
    for rank in found:
        assert_equal(rank[f"prompt {name}"], {n: expected[n] for n in ("logits", "steps")})


def test_generation(found: Ranks) -> None:
    model = model_of(TRAINED["hybrid"]).eval()
    expected = [g.tokens for g in model.generate([[1, 2, 3], [4, 5]], max_new_tokens=6)]
    assert [rank["generated"] for rank in found] == [expected] * RANKS


def test_a_model_that_was_saved_is_whole(found: Ranks) -> None:
    assert [rank["saved"] for rank in found] == [True] * RANKS
    for rank in found:
        assert "it is a file, and a model is a folder" in rank["saved in a file"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("another mixer", "blocks.1.mixer is a RWKV, which is not cut; it takes causal Hyena"),
        ("channels", f"{RANKS} processes do not divide the 15 channels of blocks.0.mixer"),
        ("heads", f"{RANKS} processes do not divide the 1 heads of keys of blocks.1.mixer"),
        ("hidden", f"{RANKS} processes do not divide the 21 hidden values of blocks.0.mlp"),
        ("dropout", "tensor_parallel: expected dropout 0, got 0.1"),
        ("normalised", "the filters of blocks.0.mixer are normalized over all channels"),
        ("two dimensions", "expected a mesh of one dimension, got 2 of names ('other', 'tensor')"),
    ],
)
def test_what_cannot_be_is_refused_on_every_rank(found: Ranks, name: str, message: str) -> None:
    for rank in found:
        assert message in rank[name]
        assert "\n" not in rank[name]
