"""A trained table of positions, which counts from the start of each document."""

import pytest
import torch
from comparison import assert_close
from small_models import gradients, small_config, small_model, tokens
from torch import Tensor
from torch.nn import functional as F

from hyena.model import LanguageModel, load, save

LEARNED = {"mixers": "attention", "positions": "learned"}


def logits_of_prefix(model: LanguageModel, ids: Tensor) -> Tensor:
    """The model by its parts: the table's first rows are added to the embedding, once."""
    assert model.positions is not None
    x = model.embedding.weight[ids] + model.positions.weight[: ids.shape[1]]
    for block in model.blocks:
        x = block(x, None, None)
    return F.linear(model.norm(x), model.embedding.weight[: model.config.vocab_size])


def test_the_table_is_added_to_the_embedding() -> None:
    model, ids = small_model(**LEARNED), tokens(2, 20)
    assert_close(model(ids), logits_of_prefix(model, ids), 1e-12)
    assert model.positions is not None
    assert model.positions.weight.shape == (24, 12)


def test_attention_beside_it_is_not_rotary() -> None:
    for positions, rotary in (("rotary", True), ("learned", False), ("none", False)):
        model = small_model("hyena,attention", positions=positions)
        assert [b.mixer.rotary for b in model.blocks if hasattr(b.mixer, "rotary")] == [rotary]
        assert (model.positions is not None) == (positions == "learned")


def test_without_positions_attention_knows_no_order() -> None:
    ids = tokens(1, 10)
    swapped = ids[:, [1, 0, *range(2, 10)]]
    assert not torch.equal(swapped, ids)
    none = small_model("attention", layers=1, positions="none")
    assert_close(none(swapped)[:, 2:], none(ids)[:, 2:], 1e-10)
    for positions in ("learned", "rotary"):
        model = small_model("attention", layers=1, positions=positions)
        assert not torch.allclose(model(swapped)[:, 2:], model(ids)[:, 2:], rtol=1e-3)


@torch.no_grad()
def test_steps_are_the_forward_pass() -> None:
    model, ids = small_model(**LEARNED), tokens(2, 24)
    for known in (1, 13, 23):
        logits, state = model.prefill(ids[:, :known])
        steps = []
        for t in range(known, 24):
            y, state = model.step(ids[:, t], state)
            steps.append(y)
        assert_close(torch.cat([logits, torch.stack(steps, 1)], dim=1), model(ids), 1e-10)
    with pytest.raises(ValueError, match="the input is 25 tokens long but the model's max_length"):
        model.step(ids[:, 0], state)


@pytest.mark.parametrize("lengths", [(5, 1, 6, 12), (24,), (7, 5, 12)], ids=str)
def test_every_document_counts_from_zero(lengths: tuple[int, ...]) -> None:
    model = small_model(**LEARNED).train()
    documents = [tokens(length, seed=i) for i, length in enumerate(lengths)]
    rows = torch.cat(documents)[None]
    weights = torch.randn(1, 24, 29, dtype=torch.float64)
    expected = torch.cat([model(document[None]) for document in documents], dim=1)
    (expected * weights).sum().backward()
    wanted = gradients(model)
    edges = torch.tensor([0, *lengths]).cumsum(0)
    got = model(rows, cu_seqlens=edges)
    assert_close(got, expected, 1e-10)
    (got * weights).sum().backward()
    for name, gradient in gradients(model).items():
        if wanted[name].any():
            assert_close(gradient, wanted[name], 1e-10)
    assert_close(model(rows.expand(2, -1), document_ids=ids_of(lengths))[1:], expected, 1e-10)


def ids_of(lengths: tuple[int, ...]) -> Tensor:
    ids = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    return torch.stack([ids * 0, ids])


def test_many_documents_may_be_longer_than_the_table_together() -> None:
    model, ids = small_model(**LEARNED), tokens(1, 40)
    logits = model(ids, document_ids=(torch.arange(40) >= 20).long()[None])
    assert_close(logits[:, 20:], model(ids[:, 20:]), 1e-10)


def test_padding_is_refused() -> None:
    model, mask = small_model(**LEARNED), torch.ones(2, 5, dtype=torch.bool)
    mask[0, 0] = False
    for call in (model, model.prefill):
        with pytest.raises(ValueError, match="learned positions count columns, so that padding"):
            call(tokens(2, 5), mask=mask)


def test_a_table_has_no_longer_inputs() -> None:
    with pytest.raises(ValueError, match=r"model\.positions=learned is a table of max_length rows"):
        small_config(**LEARNED, length_policy="extrapolate")
    with pytest.raises(ValueError, match=r"model\.positions: expected one of rotary, le"):
        small_config(positions="absolute")


def test_its_initial_values() -> None:
    config = small_config(**LEARNED, max_length=2000)
    tables = []
    for seed in (0, 0, 1):
        model = LanguageModel(config, generator=torch.Generator().manual_seed(seed))
        assert model.positions is not None
        tables.append(model.positions.weight.detach())
    assert torch.equal(tables[0], tables[1])
    assert not torch.equal(tables[0], tables[2])
    assert abs(float(tables[0].std()) - 0.02) < 0.001


@pytest.mark.cpu
@torch.no_grad()
def test_it_is_saved_with_the_model(tmp_path) -> None:
    model, ids = small_model(**LEARNED), tokens(2, 9)
    save(model, tmp_path)
    loaded = load(tmp_path)
    assert loaded.config == model.config
    assert torch.equal(loaded(ids), model(ids))
