"""Hyena in place of attention in BERT, GPT-2 and ViT of transformers: outputs, masks, training."""

from typing import Any

import pytest
import torch
from encoders_with_hyena import hyena_calls, refuses
from torch import Tensor
from transformers_models import (
    LENGTH,
    TOLERANCE,
    WIDTH,
    bert,
    bert_decoder,
    gpt2,
    mask_of,
    tokens,
    vit,
    with_hyena,
)

from hyena.mixers import HyenaOperator, TransformersAttentionAdapter
from hyena.mixers.replacing.replace import replace_attention


def changes(model: Any, at: int, **options: Any) -> Tensor:
    """(L,) how far the outputs move if the token at a position is another."""
    ids = tokens(1)
    other = ids.clone()
    other[:, at] = ids[:, at] % 16 + 1
    with torch.no_grad():
        return (model(ids, **options)[0] - model(other, **options)[0]).abs().amax((0, 2))


@pytest.mark.parametrize(
    ("make", "causal", "names"),
    [
        (bert, False, "encoder.layer.{}.attention.self"),
        (bert, True, "encoder.layer.{}.attention.self"),
        (bert_decoder, True, "bert.encoder.layer.{}.attention.self"),
        (gpt2, True, "transformer.h.{}.attn"),
        (vit, False, "vit.layers.{}.attention"),
    ],
)
def test_each_layer_is_replaced(make: Any, causal: bool, names: str) -> None:
    model = make()
    assert replace_attention(model, LENGTH, causal=causal) == [names.format(i) for i in range(2)]
    mixers = [x for x in model.modules() if isinstance(x, HyenaOperator)]
    assert [(x.width, x.bidirectional, x.training) for x in mixers] == 2 * [
        (WIDTH, not causal, False)
    ]
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    calls = hyena_calls(model)
    inputs = torch.randn(2, 1, 8, 8) if make is vit else tokens(2)
    model(inputs, **({} if make is vit else {"use_cache": False}))
    assert len(calls) == 2


def test_dropouts_go_where_they_were() -> None:
    model = gpt2(attn_pdrop=0.25, resid_pdrop=0.5)
    before = model.transformer.h[0].attn.resid_dropout
    with_hyena(model, causal=True)
    attn = model.transformer.h[0].attn
    assert (attn.mixer.dropout, attn.dropout) == (0.25, before)
    model = with_hyena(bert(attention_probs_dropout_prob=0.25), causal=False)
    assert model.encoder.layer[0].attention.self.mixer.dropout == 0.25


def test_a_block_of_gpt2_is_its_formula() -> None:
    model = with_hyena(gpt2(), causal=True)
    block, u = model.transformer.h[0], torch.randn(2, 7, WIDTH, dtype=torch.float64)
    v = u + block.attn.mixer(block.ln_1(u))
    with torch.no_grad():
        assert torch.equal(block(u), v + block.mlp(block.ln_2(v)))


def test_bert_sees_both_ways_and_gpt2_the_past() -> None:
    assert changes(with_hyena(bert(), causal=False), 6).amin() > 1e-8
    for model in (with_hyena(gpt2(), causal=True), with_hyena(bert_decoder(), causal=True)):
        for cached in (False, True):
            change = changes(model, 6, use_cache=cached)
            assert change[:6].amax() < 1e-12
            assert change[6:].amin() > 1e-8


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.float64])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("attn", ["sdpa", "eager"])
@pytest.mark.parametrize("make", [bert, gpt2])
def test_padded_equals_unpadded(make: Any, attn: str, side: str, dtype: torch.dtype) -> None:
    model = with_hyena(make(attn), causal=make is gpt2)
    ids, mask = tokens(), mask_of([12, 5, 1], 12, side)
    places = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():  # with GPT-2's cache, as it is by default
        together = model(ids, attention_mask=mask.to(dtype), position_ids=places)[0]
        for row, real, y in zip(ids, mask.bool(), together, strict=True):
            alone = model(row[real][None])[0][0]
            torch.testing.assert_close(y[real], alone, **TOLERANCE)


def test_patches_may_be_padded() -> None:
    model, images = with_hyena(vit(), causal=False).vit, torch.randn(2, 1, 8, 8)
    mask = mask_of([17, 9], 17, "right")
    with torch.no_grad():
        y = model(images, attention_mask=mask)[0]
        images[1, :, 4:] = 7.0  # the lower half: patches 8 to 15, tokens 9 to 16
        other = model(images, attention_mask=mask)[0]
    torch.testing.assert_close(y[1, :9], other[1, :9], **TOLERANCE)
    assert (y[1, 9:] - other[1, 9:]).abs().amax() > 1e-6


def test_a_causal_operator_may_stand_where_all_was_seen() -> None:
    model = with_hyena(bert(), causal=True)
    ids, mask = tokens(), mask_of([12, 5, 1], 12, "right")
    with torch.no_grad():
        y = model(ids, attention_mask=mask)[0]
        alone = model(ids[1:2, :5])[0]
    torch.testing.assert_close(y[1:2, :5], alone, **TOLERANCE)
    assert changes(model, 6)[:6].amax() < 1e-12


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("make", [bert_decoder, gpt2])
def test_gradients_reach_every_parameter_of_the_operators(make: Any, checkpointing: bool) -> None:
    model = with_hyena(make(), causal=True).train()
    if checkpointing:
        model.activation_checkpointing_enable()
    ids = tokens()
    mask = mask_of([12, 5, 9], 12, "right")
    model(ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, -100)).loss.backward()
    for name, parameter in model.named_parameters():
        if ".mixer." in name and parameter.requires_grad:
            assert parameter.grad is not None, name
            assert bool(parameter.grad.any()), name


def test_saved_weights_are_loaded_into_a_model_replaced_alike(tmp_path: Any) -> None:
    model, other = with_hyena(gpt2(), causal=True), with_hyena(gpt2(), causal=True)
    model.save_pretrained(tmp_path)
    from safetensors.torch import load_model

    load_model(other, str(tmp_path / "model.safetensors"))
    ids = tokens()
    with torch.no_grad():
        assert torch.equal(model(ids)[0], other(ids)[0])


def test_cross_attention_is_left_alone() -> None:
    model = gpt2(add_cross_attention=True)
    names = replace_attention(model, LENGTH, causal=True)
    assert names == ["transformer.h.0.attn", "transformer.h.1.attn"]
    crossing = model.transformer.h[0].crossattention
    assert not isinstance(crossing, TransformersAttentionAdapter)
    ids, states = tokens(), torch.randn(3, 5, WIDTH, dtype=torch.float64)
    with torch.no_grad():
        whole = model(ids, encoder_hidden_states=states, use_cache=False).logits
        first = model(ids[:, :-1], encoder_hidden_states=states, use_cache=True)
        last = model(ids[:, -1:], encoder_hidden_states=states, cache=first.cache)
    torch.testing.assert_close(last.logits[:, 0], whole[:, -1], **TOLERANCE)
    attn = model.transformer.h[0].attn
    with refuses(
        "TransformersAttentionAdapter: Hyena replaces self-attention only, but got "
        "encoder_hidden_states; leave this module out of replace_attention (names=)"
    ):
        attn(states, encoder_hidden_states=states)


@pytest.mark.parametrize("make", [gpt2, bert_decoder])
def test_a_causal_model_is_not_made_to_see_the_future(make: Any) -> None:
    title = "GPT2Attention" if make is gpt2 else "BertSelfAttention"
    with pytest.raises(ValueError, match=f"is a {title} that sees its past only, and causal=False"):
        replace_attention(make(), LENGTH, causal=False)


ADVICE = (
    "TransformersAttentionAdapter: the attention_mask is not one that Hyena can honour, which "
    "hides {} and nothing else here; give the model one of two dimensions, 1 at real tokens and 0 "
    "at padding"
)


@pytest.mark.parametrize("attn", ["sdpa", "eager"])
def test_other_masks_are_refused(attn: str) -> None:
    ids = tokens()
    for model, hides in (
        (with_hyena(bert(attn), causal=False), "padding"),
        (with_hyena(gpt2(attn), causal=True), "padding and the future"),
    ):
        band = torch.ones(3, 1, 12, 12, dtype=torch.bool).tril().triu(-3)
        if attn == "eager":
            band = torch.zeros(band.shape).masked_fill(~band, torch.finfo(torch.float32).min)
        with refuses(ADVICE.format(hides)):
            model(ids, attention_mask=band)


def test_padding_between_real_tokens_is_refused() -> None:
    model, mask = with_hyena(bert(), causal=False), mask_of([12, 12, 12], 12, "right")
    mask[1, 4:6] = 0
    with pytest.raises(ValueError, match="got padding between real tokens; move the real tokens"):
        model(tokens(), attention_mask=mask)


def test_sequences_packed_in_a_row_are_refused() -> None:
    model = with_hyena(gpt2(), causal=True)
    places = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 4, 5, 6, 7]])
    with refuses(ADVICE.format("padding and the future")):
        model(tokens(1), position_ids=places, use_cache=False)
    attn = model.transformer.h[0].attn
    with pytest.raises(ValueError, match="a row has several sequences; give each a row of its own"):
        attn(torch.zeros(1, 5, WIDTH, dtype=torch.float64), cu_seq_lens_q=torch.tensor([0, 3, 5]))


def test_what_a_call_asks_for_in_vain_is_refused() -> None:
    model, ids = with_hyena(bert(), causal=False), tokens()
    with refuses(
        "TransformersAttentionAdapter: Hyena has no attention weights to return; leave "
        "output_attentions out"
    ):
        model(ids, output_attentions=True)
    with refuses(
        "TransformersAttentionAdapter: got is_causal=True, but what a position sees was said when "
        "the attention was replaced; leave is_causal out"
    ):
        model(ids, is_causal=True)
    attn, u = model.encoder.layer[0].attention.self, torch.zeros(1, 5, WIDTH, dtype=torch.float64)
    with pytest.raises(TypeError, match='got 7; load the model with attn_implementation="sdpa" or'):
        attn(u, attention_mask=7)
    with refuses(
        "TransformersAttentionAdapter: expected attention_mask (1, 1, 5, 5) or (1, 5), got (5, 5)"
    ):
        attn(u, attention_mask=torch.ones(5, 5))
    with refuses(
        "TransformersAttentionAdapter: expected attention_mask of bool (True = look) or float "
        "(-inf = ignore), got torch.int64; mask.bool() makes it one"
    ):
        attn(u, attention_mask=torch.ones(1, 1, 5, 5, dtype=torch.int64))
