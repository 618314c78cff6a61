"""A forward pass of `hyena.huggingface` is that of the language model inside, whatever it is called
with."""

import pytest
import torch
from small_transformers import SIZES, VOCABULARY, language_model, padded, small, tokens
from torch.nn import functional as F
from transformers import DynamicCache

from hyena.huggingface import (
    HyenaConfig,
    HyenaForCausalLM,
    HyenaForMaskedLM,
    HyenaForSequenceClassification,
    HyenaModel,
)

MIXERS = ["hyena", "attention", "rwkv", "hyena,attention"]


@torch.no_grad()
def test_the_logits_are_those_of_the_language_model(model: HyenaForCausalLM) -> None:
    ids = tokens(2, 13)
    output = model(ids)
    assert torch.equal(output.logits, model.model(ids))
    assert (output.loss, output.hidden_states, output.get("cache")) == (None, None, None)
    assert torch.equal(model(ids.int()).logits, output.logits)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.float32])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("mixers", MIXERS)
def test_padding_changes_no_logits_of_real_tokens(
    mixers: str, side: str, dtype: torch.dtype
) -> None:
    model = small(mixers)
    rows = [tokens(n, seed=n) for n in (11, 4, 1)]
    ids, mask = padded(rows, side)
    logits = model(ids, attention_mask=mask.to(dtype)).logits
    for i, row in enumerate(rows):
        alone = model(row[None]).logits[0]
        torch.testing.assert_close(logits[i][mask[i] == 1], alone, atol=1e-5, rtol=1e-5)


def test_padding_on_the_right_gets_no_gradient() -> None:
    model = small()
    ids, mask = padded([tokens(11), tokens(4)], "right")
    embedded = model.get_input_embeddings()(ids).detach().requires_grad_()
    labels = ids.masked_fill(mask == 0, -100)
    model(inputs_embeds=embedded, attention_mask=mask, labels=labels).loss.backward()
    assert embedded.grad is not None
    assert not bool(embedded.grad[mask == 0].any())
    assert bool(embedded.grad[1, :3].any())


@torch.no_grad()
def test_a_mask_of_ones_is_as_none(model: HyenaForCausalLM) -> None:
    ids = tokens(2, 7)
    assert torch.equal(model(ids, attention_mask=torch.ones_like(ids)).logits, model(ids).logits)


@torch.no_grad()
@pytest.mark.parametrize("mixers", MIXERS)
def test_hidden_states_end_with_what_the_head_reads(mixers: str) -> None:
    model = small(mixers)
    ids, mask = padded([tokens(9), tokens(5)], "right")
    output = model(ids, attention_mask=mask, output_hidden_states=True)
    base = HyenaModel.from_language_model(model.model)
    plain = base(ids, attention_mask=mask)
    assert len(output.hidden_states) == model.config.num_hidden_layers + 1
    assert torch.equal(output.hidden_states[0], model.get_input_embeddings()(ids))
    real = mask == 1
    torch.testing.assert_close(output.hidden_states[-1][real], plain.last_hidden_state[real])
    head = model.get_input_embeddings().weight[:VOCABULARY]
    torch.testing.assert_close(output.logits, output.hidden_states[-1] @ head.T)
    assert base(ids, output_hidden_states=True, return_dict=False)[1][-1].shape == (2, 9, 12)


@torch.no_grad()
def test_embeddings_do_as_well_as_their_tokens() -> None:
    ids = tokens(2, 9)
    for model in (small(), small("attention", positions="learned")):
        embedded = model.get_input_embeddings()(ids)
        torch.testing.assert_close(model(inputs_embeds=embedded).logits, model(ids).logits)


@torch.no_grad()
def test_embeddings_belong_to_the_caller() -> None:
    sizes = {**SIZES, "filter": vars(SIZES["filter"])}
    both = HyenaForMaskedLM(HyenaConfig(**sizes, bidirectional=True)).eval()
    heads = HyenaForSequenceClassification, HyenaModel, HyenaForCausalLM
    ids, mask = padded([tokens(9), tokens(5)], "right")
    for model in (both, *(kind.from_language_model(language_model()) for kind in heads)):
        model.model.working_memory = 0  # so that blocks write into the stream
        embedded = model.get_input_embeddings()(ids)
        kept, options = embedded.clone(), [{}, {"attention_mask": mask}]
        if not isinstance(model, HyenaForMaskedLM | HyenaForSequenceClassification):
            options.append({"use_cache": True})
        for given in options:
            first = model(inputs_embeds=embedded, **given)[0]
            assert torch.equal(embedded, kept), type(model).__name__
            assert torch.equal(model(inputs_embeds=embedded, **given)[0], first)


@torch.no_grad()
def test_logits_to_keep_are_the_last_ones_or_those_that_are_named(model: HyenaForCausalLM) -> None:
    ids = tokens(2, 9)
    whole = model(ids).logits
    for kept, expected in (
        (1, whole[:, -1:]),
        (4, whole[:, -4:]),
        (torch.tensor([0, 5, 8]), whole[:, [0, 5, 8]]),
    ):
        for options in ({}, {"use_cache": True}):
            found = model(ids, logits_to_keep=kept, **options).logits
            torch.testing.assert_close(found, expected)


@torch.no_grad()
def test_a_tuple_has_what_was_asked_for(model: HyenaForCausalLM) -> None:
    ids = tokens(2, 9)
    whole = model(ids, labels=ids, output_hidden_states=True, use_cache=True)
    loss, logits, cache, hidden = model(
        ids, labels=ids, output_hidden_states=True, use_cache=True, return_dict=False
    )
    assert torch.equal(loss, whole.loss)
    assert torch.equal(logits, whole.logits)
    assert cache.get_seq_length() == 9
    assert all(map(torch.equal, hidden, whole.hidden_states))


def test_labels_are_the_tokens_and_are_shifted(model: HyenaForCausalLM) -> None:
    ids = tokens(2, 9)
    labels = ids.clone()
    labels[0, 4:6] = -100
    output = model(ids, labels=labels)
    flat = output.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
    torch.testing.assert_close(output.loss, F.cross_entropy(*flat, ignore_index=-100))
    shifted = F.pad(labels[:, 1:], (0, 1), value=-100)
    torch.testing.assert_close(output.loss, model.model(ids, targets=shifted))
    total = F.cross_entropy(*flat, ignore_index=-100, reduction="sum")
    for items in (5, torch.tensor(5)):
        found = model(ids, labels=labels, num_items_in_batch=items).loss
        torch.testing.assert_close(found, total / 5)


def checkpointing(model: HyenaForCausalLM, change: str) -> None:
    """By its name, or by the one that it had in earlier versions of transformers."""
    names = f"activation_checkpointing_{change}", f"gradient_checkpointing_{change}"
    getattr(model, next(name for name in names if hasattr(model, name)))()


def test_gradient_checkpointing_changes_no_gradient() -> None:
    ids = tokens(2, 9)
    found = []
    for enabled in (False, True):
        model = small().train()
        if enabled:
            checkpointing(model, "enable")
            assert model.gradient_checkpointing
            assert model.model.activation_checkpointing
        model(ids, labels=ids).loss.backward()
        found.append({name: p.grad for name, p in model.named_parameters()})
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, msg=name)
    checkpointing(model, "disable")
    assert not model.gradient_checkpointing


def test_what_does_not_fit_is_one_line(model: HyenaForCausalLM) -> None:
    ids = tokens(2, 9)
    gap = torch.ones_like(ids)
    gap[0, 4] = 0
    for options, kind, message in (
        ({}, ValueError, "HyenaForCausalLM: expected input_ids or inputs_embeds, got none of them"),
        (
            {"input_ids": ids, "inputs_embeds": torch.zeros(2, 9, 12)},
            ValueError,
            "HyenaForCausalLM: expected input_ids or inputs_embeds, got both of them",
        ),
        (
            {"inputs_embeds": torch.zeros(2, 9, 13)},
            ValueError,
            "HyenaForCausalLM: expected inputs_embeds (B, L, 12), got (2, 9, 13)",
        ),
        (
            {"input_ids": ids, "attention_mask": torch.ones(2, 8)},
            ValueError,
            "HyenaForCausalLM: expected attention_mask (B, L) = (2, 9), 1 at real tokens, got "
            "(2, 8)",
        ),
        (
            {"input_ids": ids, "attention_mask": gap},
            ValueError,
            "HyenaOperator: expected padding at the ends of each row or packed document, got "
            "padding between real tokens; move the real tokens together",
        ),
        (
            {"input_ids": ids, "past_key_values": DynamicCache()},
            TypeError,
            "a HyenaCache, got DynamicCache; leave it out, or give what this model returned",
        ),
        (
            {"input_ids": ids + VOCABULARY},
            ValueError,
            "is outside the vocabulary of 29; was the text tokenized with another tokenizer?",
        ),
        (
            {"input_ids": tokens(1, 49)},
            ValueError,
            "the input is 49 tokens long but the model's max_length is 48",
        ),
    ):
        with pytest.raises(kind) as problem:
            model(**options)
        assert message in str(problem.value)
        assert "\n" not in str(problem.value)
    model = small()
    with pytest.raises(ValueError, match="is of every block, got every_n_layers=2; leave it out"):
        model._set_gradient_checkpointing(every_n_layers=2)
