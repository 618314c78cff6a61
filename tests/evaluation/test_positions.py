"""Losses by the position in a window, against their plain definition."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hyena.evaluation import evaluate, evaluate_by_position, position_bins
from hyena.model import LanguageModel, ModelConfig

V = 7
END = V - 1


class Counting(nn.Module):
    """Rules out nothing, but expects token p at position p of its input; in training mode never."""

    def forward(self, ids: Tensor) -> Tensor:
        assert not self.training
        expected = torch.arange(ids.shape[1]).clamp(max=V - 1)
        logits = torch.zeros(*ids.shape, V, dtype=torch.float64)
        logits[:, torch.arange(ids.shape[1]), expected] = 10.0
        return logits


def documents(*lengths: int, seed: int = 0) -> list[tuple[np.ndarray[Any, Any], int]]:
    """Of so many tokens between two end_of_text."""
    generator = np.random.default_rng(seed)
    texts = [generator.integers(0, END, n) for n in lengths]
    return [(np.concatenate([[END], x, [END]]).astype(np.uint16), 3 * len(x)) for x in texts]


def small(policy: str, mixers: str = "hyena", **changes: Any) -> LanguageModel:
    """A model for 8 positions whose layers have a say in what it predicts."""
    config = ModelConfig(
        vocab_size=V,
        width=8,
        layers=2,
        mixers=mixers,
        head_dim=4,
        max_length=8,
        length_policy=policy,  # type: ignore[arg-type]
        initial="pytorch",
        **changes,
    )
    return LanguageModel(config, generator=torch.Generator().manual_seed(0)).double().eval()


def by_definition(
    model: LanguageModel, texts: list[tuple[Any, int]], length: int, edges: list[int]
) -> list[float]:
    """The mean over windows and positions, one target after the other."""
    found: list[list[float]] = [[] for _ in edges[1:]]
    for tokens, _ in texts:
        ids = torch.from_numpy(tokens.astype(np.int64))
        first = 0
        while first + length < len(ids):
            with torch.no_grad():
                logits = model(ids[None, first : first + length])[0].double()
            for t in range(length):
                target = ids[first + t + 1]
                loss = torch.logsumexp(logits[t], 0) - logits[t, target]
                (i,) = [i for i in range(len(edges) - 1) if edges[i] <= t < edges[i + 1]]
                found[i].append(float(loss))
            first += length
    return [sum(losses) / len(losses) for losses in found]


@pytest.mark.parametrize(
    ("policy", "mixers"),
    [
        ("extrapolate", "hyena"),
        ("interpolate", "hyena"),
        ("extrapolate", "attention"),
        ("interpolate", "hyena,attention"),
    ],
)
@pytest.mark.parametrize("batch", [1, 2, 9])
def test_losses_beyond_the_trained_length_are_those_of_the_definition(
    policy: str, mixers: str, batch: int
) -> None:
    model, texts, edges = small(policy, mixers), documents(50, 19, 5, 20), [0, 1, 3, 8, 15, 20]
    found = evaluate_by_position(model, texts, length=20, edges=edges, batch=batch)
    assert found.losses == pytest.approx(by_definition(model, texts, 20, edges), rel=1e-12)
    assert (found.edges, found.windows, found.documents, found.shorter) == (edges, 2 + 1 + 1, 3, 1)


def test_a_policy_makes_a_difference_beyond_the_trained_length_alone() -> None:
    texts, edges = documents(16), [0, 8, 16]
    near, far = (
        evaluate_by_position(small(policy), texts, length=16, edges=edges).losses
        for policy in ("extrapolate", "interpolate")
    )
    assert near[0] != pytest.approx(far[0], rel=1e-6)  # interpolated filters are others everywhere
    short = evaluate_by_position(small("interpolate"), documents(8), length=8, edges=[0, 8])
    same = evaluate_by_position(small("error"), documents(8), length=8, edges=[0, 8])
    assert short == same


def test_any_model_that_can_be_called_is_taken_and_its_mode_restored() -> None:
    model = Counting().train()
    tokens = np.array([END, 0, 1, 2, 3, 0, 1, 0, 3, END])  # two windows of 4, and one target left
    found = evaluate_by_position(model, [(tokens, 8)], length=4, edges=[0, 1, 2, 3, 4])
    right, wrong = (float(np.log(6 + np.exp(10)) - x) for x in (10, 0))
    assert found.losses == pytest.approx([right, right, (right + wrong) / 2, right], rel=1e-12)
    assert model.training
    assert found.windows == 2


def test_the_mean_over_all_positions_is_that_of_independent_windows() -> None:
    model, texts = small("extrapolate"), documents(40, 60)
    whole = [(tokens[: 20 * ((len(tokens) - 1) // 20) + 1], size) for tokens, size in texts]
    found = evaluate_by_position(model, texts, length=20)
    other = evaluate(model, whole, length=20, stride=20)
    mean = np.average(found.losses, weights=np.diff(found.edges))
    assert mean == pytest.approx(other.loss_nats_per_token, rel=1e-12)
    assert found.windows * 20 == other.tokens


@pytest.mark.parametrize(
    ("length", "first", "expected"),
    [
        (16, 64, [0, 16]),
        (64, 64, [0, 64]),
        (65, 64, [0, 64, 65]),
        (100, 64, [0, 64, 96, 100]),
        (512, 64, [0, 64, 96, 128, 192, 256, 384, 512]),
        (8, 2, [0, 2, 3, 4, 6, 8]),
        (1, 2, [0, 1]),
    ],
)
def test_bins_grow_and_end_at_powers_of_two(length: int, first: int, expected: list[int]) -> None:
    assert position_bins(length, first=first) == expected


def test_the_longest_context_has_its_own_bins() -> None:
    edges = position_bins(16_384)
    assert {2048, 4096, 8192} < set(edges)
    assert all(a < b for a, b in itertools.pairwise(edges))


def test_progress_is_told() -> None:
    seen: list[tuple[int, int]] = []
    evaluate_by_position(
        Counting(),
        documents(8, 3, 4),
        length=4,
        batch=2,
        progress=lambda *counts: seen.append(counts),
    )
    assert seen == [(1, 8), (3, 16)]


def read_never() -> Iterator[Any]:
    raise AssertionError("documents were read")
    yield


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"length": 0}, "evaluate: length: expected at least 1, got 0"),
        ({"batch": 0}, "evaluate: batch: expected at least 1, got 0"),
        ({"edges": [0, 3]}, r"expected edges of bins that ascend from 0 to the length 4, got \[0,"),
        ({"edges": [1, 4]}, "expected edges of bins that ascend from 0"),
        ({"edges": [0, 2, 2, 4]}, "expected edges of bins that ascend from 0"),
        ({"edges": [0]}, "expected edges of bins that ascend from 0"),
        ({"edges": 4}, "expected edges of bins that ascend from 0"),
        ({"edges": [0, 1.5, 4]}, "evaluate: edges: expected a whole number, got 1.5"),
        ({"device": "x"}, 'evaluate: expected a device such as "cpu"'),
    ],
)
def test_arguments_that_make_no_sense_are_refused_before_any_work(
    changes: dict[str, Any], message: str
) -> None:
    options: dict[str, Any] = {"length": 4, **changes}
    with pytest.raises(ValueError, match=message):
        evaluate_by_position(Counting(), read_never(), **options)


def test_what_cannot_be_read_is_refused() -> None:
    with pytest.raises(TypeError, match="expected a model that can be called"):
        evaluate_by_position(3, [], length=4)  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match="a window of 9 inputs was asked for, but the longest docu"
    ):
        evaluate_by_position(Counting(), documents(7, 2), length=9)
    with pytest.raises(ValueError, match="there are no documents to evaluate"):
        evaluate_by_position(Counting(), [], length=9)
    with pytest.raises(ValueError, match="max_length"):
        evaluate_by_position(small("error"), documents(20), length=9)
