"""Classes and numbers of sequences, and models of both directions."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from small_transformers import language_model, padded, small, tokens
from torch.nn import functional as F
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
)

import hyena
from hyena.huggingface import (
    HyenaConfig,
    HyenaForCausalLM,
    HyenaForMaskedLM,
    HyenaForSequenceClassification,
    HyenaModel,
)
from hyena.model.label_head import LabelHead, Labels
from hyena.model.label_outputs import label_outputs

BOTH: dict[str, Any] = {
    "vocab_size": 29,
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "max_position_embeddings": 48,
    "filter": {"emb_dim": 5, "width": 6},
    "bidirectional": True,
}
CLASSES = Labels("classification", ("low", "middle", "high"), pool="mean", begin=True)
NUMBERS = Labels("regression", ("a", "b"), "last", False, (3.0, -1.0), (2.0, 0.5))


def masked() -> HyenaForMaskedLM:
    """A small model of both directions with weights that are large enough to tell a wrong one."""
    model = HyenaForMaskedLM(HyenaConfig(**BOTH)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.endswith((".sine_freq", ".decay")):
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def labelled(labels: Labels) -> hyena.LanguageModel:
    """A language model of ours with a head for labels."""
    model = language_model()
    model.label_head = LabelHead(12, labels, generator=torch.Generator().manual_seed(1))
    torch.nn.init.normal_(model.label_head.linear.bias)
    return model


@torch.no_grad()
@pytest.mark.parametrize("labels", [CLASSES, NUMBERS], ids=lambda labels: labels.task)
def test_a_head_of_ours_says_the_same_in_transformers(labels: Labels, tmp_path: Path) -> None:
    rows = [tokens(9, seed=1), tokens(5, seed=2)]
    ids, mask = padded(rows, "right")
    model = labelled(labels)
    expected = label_outputs(model, ids, mask.sum(1))
    if labels.task == "regression":
        expected = expected * torch.tensor(labels.deviations) + torch.tensor(labels.means)
    theirs = HyenaForSequenceClassification.from_language_model(model)
    assert list(theirs.config.id2label.values()) == list(labels.names)
    theirs.save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert type(again) is HyenaForSequenceClassification
    for one in (theirs, again):
        torch.testing.assert_close(one(ids, attention_mask=mask).logits, expected)
        left, left_mask = padded(rows, "left")
        torch.testing.assert_close(
            one(left, attention_mask=left_mask).logits, expected, atol=1e-5, rtol=1e-5
        )
        alone = one(rows[0][None]).logits
        torch.testing.assert_close(alone, expected[:1], atol=1e-5, rtol=1e-5)
    ours = hyena.load(tmp_path)
    assert ours.label_head is not None
    read = ours.label_head.labels
    assert (read.task, read.names, read.pool, read.begin) == (
        labels.task,
        labels.names,
        labels.pool,
        labels.begin,
    )
    torch.testing.assert_close(label_outputs(ours, ids, mask.sum(1)), expected)


def test_losses_of_labels_are_those_of_their_kind() -> None:
    ids = tokens(3, 9)
    for changes, labels, loss in (
        ({"num_labels": 4}, torch.tensor([0, 3, 1]), F.cross_entropy),
        ({"num_labels": 1}, torch.rand(3), lambda y, t: F.mse_loss(y[:, 0], t)),
        ({"num_labels": 2, "problem_type": "regression"}, torch.rand(3, 2), F.mse_loss),
        (
            {"num_labels": 3, "problem_type": "multi_label_classification"},
            torch.rand(3, 3).round(),
            F.binary_cross_entropy_with_logits,
        ),
    ):
        model = HyenaForSequenceClassification(
            HyenaConfig(**{**BOTH, "bidirectional": False}, **changes)
        )
        output = model(ids, labels=labels)
        torch.testing.assert_close(output.loss, loss(output.logits, labels))
        output.loss.backward()
        assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@torch.no_grad()
def test_a_causal_model_gets_a_new_head(folder: Path, model: HyenaForCausalLM) -> None:
    found, info = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=3, output_loading_info=True
    )
    assert info["missing_keys"] == {"score.linear.weight", "score.linear.bias"}
    assert 0.01 < found.score.linear.weight.std() < 0.03
    assert not found.score.linear.bias.any()
    for name, value in found.model.state_dict().items():
        assert torch.equal(value, model.model.state_dict()[name])


@torch.no_grad()
def test_both_directions_are_seen_and_padding_is_not(tmp_path: Path) -> None:
    model, ids = masked(), tokens(1, 9)
    other = ids.clone()
    other[0, 8] = (ids[0, 8] + 1) % 29
    change = (model(ids).logits - model(other).logits).abs().amax(-1)[0]
    assert (change > 1e-3).all()
    rows = [tokens(n, seed=n) for n in (11, 4, 1)]
    exact = masked().double()  # norms of small numbers make much of rounding
    for side in ("left", "right"):
        batch, mask = padded(rows, side)
        logits = exact(batch, attention_mask=mask).logits
        for i, row in enumerate(rows):
            alone = exact(row[None]).logits[0]
            torch.testing.assert_close(logits[i][mask[i] == 1], alone, atol=1e-10, rtol=1e-10)
    model.save_pretrained(tmp_path)
    again = AutoModelForMaskedLM.from_pretrained(tmp_path)
    assert type(again) is HyenaForMaskedLM
    assert torch.equal(again(ids).logits, model(ids).logits)
    base = AutoModel.from_pretrained(tmp_path)
    assert type(base) is HyenaModel
    last = model(ids, output_hidden_states=True).hidden_states[-1]
    assert torch.equal(base(ids).last_hidden_state, last)
    classes = AutoModelForSequenceClassification.from_pretrained(tmp_path, pool="mean")
    pooled = classes.score.linear(last.mean(1))
    torch.testing.assert_close(classes(ids).logits, pooled)


def test_the_operator_of_both_directions_is_that_of_the_package() -> None:
    model, ids = masked(), tokens(2, 9)
    x = model.get_input_embeddings()(ids)
    for block in model.model.blocks:
        assert block.mixer.bidirectional
        x = x + block.mixer(block.norm1(x))
        x = x + block.mlp(block.norm2(x))
    logits = model.model.norm(x) @ model.get_input_embeddings().weight[:29].T
    torch.testing.assert_close(model(ids).logits, logits)


def test_masked_labels_are_not_shifted() -> None:
    model, ids = masked().train(), tokens(2, 9)
    labels = torch.full_like(ids, -100)
    labels[0, 3], labels[1, 7] = 5, 6
    output = model(ids, labels=labels)
    expected = F.cross_entropy(output.logits[[0, 1], [3, 7]], torch.tensor([5, 6]))
    torch.testing.assert_close(output.loss, expected)
    torch.testing.assert_close(model(ids, labels=labels, num_items_in_batch=8).loss, expected / 4)
    model.gradient_checkpointing = True
    output = model(ids, labels=labels)
    output.loss.backward()
    torch.testing.assert_close(output.loss, expected)


def test_what_a_class_is_not_of_is_one_line(folder: Path, tmp_path: Path) -> None:
    masked().save_pretrained(tmp_path)
    tokens_of = Labels("token-classification", ("a", "b"))
    for call, message in (
        (lambda: AutoModelForMaskedLM.from_pretrained(folder), "the config is of a causal model"),
        (
            lambda: AutoModelForCausalLM.from_pretrained(tmp_path),
            "which predicts no next token; take HyenaForMaskedLM",
        ),
        (lambda: hyena.load(tmp_path), "holds a model that reads both directions"),
        (
            lambda: HyenaForMaskedLM(HyenaConfig(**{**BOTH, "mixers": "attention"})),
            "bidirectional=True is of hyena layers with hyena filters, got mixers='attention'",
        ),
        (
            lambda: HyenaForCausalLM.from_language_model(labelled(CLASSES)),
            "the model has a head for labels, which this class has not",
        ),
        (
            lambda: HyenaForSequenceClassification.from_language_model(labelled(tokens_of)),
            "a head for a class of each token, for which there is no class here",
        ),
        (
            lambda: HyenaForSequenceClassification.from_language_model(
                labelled(NUMBERS), num_labels=3
            ),
            "the model's head has 2 labels, but num_labels is 3; leave it out",
        ),
        (
            lambda: HyenaForMaskedLM.from_language_model(small().model, bidirectional=True),
            "bidirectional=True, got one whose layers read only what comes before; a model is",
        ),
        (
            lambda: HyenaForCausalLM.from_language_model(masked().model),
            "bidirectional=False, got one whose layers read both directions; a model is trained",
        ),
        (
            lambda: HyenaForSequenceClassification.from_language_model(masked().model),
            "bidirectional=False, got one whose layers read both directions",
        ),
        (
            lambda: masked().model.generate([[1]], max_new_tokens=4),
            "a bidirectional operator sees the future and cannot generate token by token",
        ),
    ):
        with pytest.raises(ValueError, match=re.escape(message)) as problem:
            call()
        assert "\n" not in str(problem.value)
    several = HyenaForSequenceClassification.from_language_model(
        small().model, num_labels=3, problem_type="multi_label_classification"
    )
    several.save_pretrained(tmp_path / "several")
    with pytest.raises(ValueError, match="of which several hold at once"):
        hyena.load(tmp_path / "several")


@torch.no_grad()
def test_a_refused_model_keeps_its_head() -> None:
    model = labelled(NUMBERS)
    head = model.label_head
    with pytest.raises(ValueError, match=r"leave it out, or set model\.label_head = None"):
        HyenaForSequenceClassification.from_language_model(model, num_labels=3)
    assert model.label_head is head


@torch.no_grad()
def test_the_configuration_says_what_is_pooled(tmp_path: Path) -> None:
    model, ids = HyenaForSequenceClassification.from_language_model(labelled(CLASSES)), tokens(2, 9)
    for pool in ("last", "mean"):
        for begin in (False, True):
            model.config.pool, model.config.begin = pool, begin
            model.save_pretrained(tmp_path)
            again = HyenaForSequenceClassification.from_pretrained(tmp_path)
            assert torch.equal(again(ids).logits, model(ids).logits)
            theirs = label_outputs(hyena.load(tmp_path), ids, torch.tensor([9, 9]))
            torch.testing.assert_close(theirs, model(ids).logits)
    model.config.pool = "last"
    assert not torch.equal(model(ids).logits, again(ids).logits)


@torch.no_grad()
def test_a_model_of_both_directions_is_taken_over_as_that() -> None:
    given, ids = masked(), tokens(2, 9)
    expected = given(ids).logits
    taken = HyenaForMaskedLM.from_language_model(given.model, bidirectional=True)
    assert torch.equal(taken(ids).logits, expected)


PADDING = 0  # no token of the rows below


def end_to_end(begin: int | None) -> list[torch.Tensor]:
    """Rows of different lengths, with a token that begins each of them; padding may be inside."""
    rows = [tokens(n, seed=n).clamp(min=1) for n in (9, 4, 2)]
    rows[0][4] = PADDING
    return rows if begin is None else [torch.cat([torch.tensor([begin]), row]) for row in rows]


@torch.no_grad()
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("pool", ["last", "mean"])
@pytest.mark.parametrize("begin", [None, 2, PADDING])
def test_padding_is_told_by_its_token(begin: int | None, pool: str, side: str) -> None:
    rows = end_to_end(begin)
    model = HyenaForSequenceClassification.from_language_model(
        language_model(), num_labels=3, pool=pool, begin=begin is not None
    ).double()
    torch.nn.init.normal_(model.score.linear.weight)
    batch, mask = padded(rows, side)
    batch[mask == 0] = PADDING
    expected = torch.cat([model(row[None]).logits for row in rows])
    model.config.pad_token_id, model.config.bos_token_id = PADDING, begin
    torch.testing.assert_close(model(batch).logits, expected, atol=1e-10, rtol=1e-10)
    found = model(batch, attention_mask=mask).logits
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-10)


@torch.no_grad()
@pytest.mark.parametrize("side", ["left", "right"])
def test_both_directions_do_not_see_the_token_of_padding(side: str) -> None:
    model, rows = masked().double(), end_to_end(None)
    base = HyenaModel(model.config).double().eval()
    base.load_state_dict(model.state_dict())
    batch, mask = padded(rows, side)
    batch[mask == 0] = PADDING
    expected = [model(row[None]).logits[0] for row in rows]
    model.config.pad_token_id = base.config.pad_token_id = PADDING
    logits, last = model(batch).logits, base(batch).last_hidden_state
    for i, row in enumerate(rows):
        torch.testing.assert_close(logits[i][mask[i] == 1], expected[i], atol=1e-9, rtol=1e-9)
        alone = base(row[None]).last_hidden_state[0]
        torch.testing.assert_close(last[i][mask[i] == 1], alone, atol=1e-9, rtol=1e-9)


def test_a_row_without_tokens_and_a_mask_to_be_added_are_one_line() -> None:
    model = HyenaForSequenceClassification.from_language_model(
        language_model(), num_labels=3, pool="mean"
    )
    ids, mask = padded([tokens(5), tokens(1)], "right")
    empty = mask.clone()
    empty[1] = 0
    added = torch.zeros(2, 5).masked_fill(mask == 0, float("-inf"))
    for given, message in (
        (empty, "row 1 of the batch has no token to read; leave it out, or mend its attention"),
        (added, "of 1 at real tokens and 0 at padding, got -inf; of a mask that is added to"),
        (torch.zeros(2, 5), "of 1 at real tokens and 0 at padding, got 0 everywhere; of a mask"),
        (3 * mask, "of 1 at real tokens and 0 at padding, got 3; of a mask that is added to"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)) as problem:
            model(ids, attention_mask=given)
        assert "\n" not in str(problem.value)
    assert model(ids, attention_mask=added == 0).logits.isfinite().all()
    model.config.begin = True
    with pytest.raises(ValueError, match="row 1 of the batch has no token to read, after the one"):
        model(ids, attention_mask=mask)
