"""Vectors are what the layers make of each sequence alone, however the sequences are batched."""

import re
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from scoring_models import BYTES, END, build

import hyena
from hyena.data import Document
from hyena.mixers import SPECS
from hyena.model import LanguageModel
from hyena.model.hidden import hidden
from hyena.scoring import embed
from hyena.scoring.embeddings import block_of, dtype_of

TEXTS = ["the cat", "a", "the cat sat on", "x" * 40, "dog", "the cat", "é", "y" * 41]


@torch.no_grad()
def hidden_of(model: LanguageModel, text: str, layer: str, *, begin: bool = True) -> torch.Tensor:
    """A vector a byte, (n, D): what the layer gives when the text runs alone."""
    found: list[torch.Tensor] = []
    module = model.get_submodule(layer)
    handle = module.register_forward_hook(lambda module, inputs, output: found.append(output))
    ids = [*([END] if begin else []), *text.encode()]
    model(torch.tensor([ids]))
    handle.remove()
    return found[0][0, 1 if begin else 0 :]


def pooled(vectors: torch.Tensor, pool: str) -> np.ndarray:
    rows = {"mean": vectors.mean(0), "last": vectors[-1], "none": vectors}
    return rows[pool].numpy()


@pytest.mark.parametrize("pool", ["mean", "last", "none"])
@pytest.mark.parametrize("layer", ["norm", "blocks.0", "blocks.1"])
@pytest.mark.parametrize("batch", [1, 100])
def test_vectors_are_those_of_the_sequence_alone(batch: int, layer: str, pool: Any) -> None:
    model = build("hyena,attention")
    found = list(embed(model, BYTES, TEXTS, layer=layer, pool=pool, batch=batch))
    assert [one.index for one in found] == list(range(len(TEXTS)))
    for one, text in zip(found, TEXTS, strict=True):
        assert one.tokens == len(text.encode())
        assert one.vectors is not None
        assert one.vectors.dtype == np.float64
        expected = pooled(hidden_of(model, text, layer), pool)
        np.testing.assert_allclose(one.vectors, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("mixers", SPECS)
def test_padding_has_no_say_whatever_the_mixer(mixers: str) -> None:
    model = build(mixers)
    for one, text in zip(embed(model, BYTES, TEXTS, batch=100), TEXTS, strict=True):
        expected = pooled(hidden_of(model, text, "norm"), "mean")
        np.testing.assert_allclose(one.vectors, expected, rtol=1e-10, atol=1e-10)


def test_without_a_beginning_nothing_is_put_before() -> None:
    model = build()
    for one, text in zip(embed(model, BYTES, TEXTS, begin=False), TEXTS, strict=True):
        expected = pooled(hidden_of(model, text, "norm", begin=False), "mean")
        np.testing.assert_allclose(one.vectors, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("pool", ["mean", "last", "none"])
def test_vectors_of_both_strands_are_the_mean_of_each(pool: Any) -> None:
    model, texts, others = build(), ["ACGTTGCA", "AACCN"], ["TGCAACGT", "NGGTT"]
    both = embed(model, BYTES, texts, pool=pool, both_strands=True)
    forward, reverse = (embed(model, BYTES, x, pool=pool) for x in (texts, others))
    for found, one, other in zip(both, forward, reverse, strict=True):
        assert one.vectors is not None
        assert other.vectors is not None
        turned = other.vectors[::-1] if pool == "none" else other.vectors
        expected = (one.vectors + turned) / 2
        np.testing.assert_allclose(found.vectors, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("memory", [0, 1 << 30])
def test_a_long_sequence_in_pieces_has_the_vectors_of_the_whole(memory: int) -> None:
    model = build(max_length=1 << 15)
    text = "ACGT" * 5000  # beyond 16,384 positions an operator goes by groups of channels
    expected = hidden_of(model, text, "norm")
    model.working_memory = memory
    (one,) = embed(model, BYTES, [text], pool="none")
    np.testing.assert_allclose(one.vectors, expected.numpy(), rtol=1e-9, atol=1e-9)
    (mean,) = embed(model, BYTES, [text])
    np.testing.assert_allclose(mean.vectors, expected.mean(0).numpy(), rtol=1e-9, atol=1e-9)


def test_what_a_layer_makes_of_a_batch_is_gone_before_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[weakref.ref[torch.Tensor]] = []

    def watched(*given: Any) -> torch.Tensor:
        assert not any(of() is not None for of in made)
        x = hidden(*given)
        made.append(weakref.ref(x))
        return x

    monkeypatch.setattr("hyena.scoring.embeddings.hidden", watched)
    assert len(list(embed(build(), BYTES, TEXTS, batch=1))) == len(made) == len(TEXTS)


def test_vectors_of_a_narrow_model_are_of_float32() -> None:
    wide, narrow = build(), build(dtype=torch.bfloat16)
    assert dtype_of(wide) == np.float64
    for layer in ("norm", "blocks.0"):
        for one in embed(narrow, BYTES, TEXTS, layer=layer):
            assert one.vectors is not None
            assert one.vectors.dtype == dtype_of(narrow) == np.float32


def test_a_bad_sequence_is_fatal_or_says_in_its_place_why() -> None:
    model, texts = build(), ["cat", Document("none", ""), "x" * 64, "dog"]
    with pytest.raises(ValueError, match=r"^none: it is empty"):
        list(embed(model, BYTES, texts))
    found = list(embed(model, BYTES, texts, on_error="skip"))
    assert [one.skipped is None for one in found] == [True, False, False, True]
    assert found[2].skipped is not None
    assert found[2].skipped.startswith(
        "it has 64 tokens, but the model has room for 63 after the end of text that begins it; cut"
    )
    assert found[1].record() == {"index": 1, "name": "none", "skipped": "it is empty"}
    assert found[3].record() == {"index": 3, "name": "3", "tokens": 3}
    (whole,) = embed(model, BYTES, ["x" * 64], begin=False)
    assert whole.tokens == 64


@pytest.mark.parametrize(
    ("layer", "layers", "expected"), [("norm", 3, None), ("blocks.0", 1, 0), ("blocks.2", 3, 2)]
)
def test_layers_have_names(layer: str, layers: int, expected: int | None) -> None:
    assert block_of(layer, layers) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": "blocks.2"}, "layer: expected norm or blocks.0 … blocks.1, got 'blocks.2'"),
        ({"layer": "blocks"}, "layer: expected norm or blocks.0 … blocks.1, got 'blocks'"),
        ({"layer": "blocks.-1"}, "layer: expected norm or blocks.0 … blocks.1, got 'blocks.-1'"),
        ({"layer": 1}, "layer: expected norm or blocks.0 … blocks.1, got 1"),
        ({"pool": "max"}, "pool: expected one of mean, last, none, got 'max'"),
        ({"batch": 0}, "batch: expected at least 1, got 0"),
        ({"tokenizer": None}, "tokenizer: expected one such as hyena.data.load_tokenizer gives"),
    ],
)
def test_arguments_out_of_range_are_refused_before_any_work(
    options: dict[str, Any], message: str
) -> None:
    given = {"tokenizer": BYTES, "sequences": ["a"], **options}
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        embed(build(), **given)


def test_damaged_weights_give_no_vectors() -> None:
    model = build()
    model.norm.weight.data[0] = torch.inf
    with pytest.raises(ValueError, match="the model's values are not finite"):
        list(embed(model, BYTES, ["cat"]))


def test_the_root_offers_it() -> None:
    assert hyena.embed is embed
