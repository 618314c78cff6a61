"""Hyena in place of timm's attention, of which a stand-in has the interface."""

import pytest
import torch
from encoders_with_hyena import LENGTH, WIDTH, padding, refuses, source
from timm_attention import Attention, vision_transformer
from torch import nn

from hyena.mixers import HyenaOperator, TimmAttentionAdapter
from hyena.mixers.replacing.replace import replace_attention


def adapter(causal: bool = False, **options: float) -> TimmAttentionAdapter:
    model = nn.ModuleDict({"attn": Attention(WIDTH, 2, **options)}).double()
    assert replace_attention(model, LENGTH, causal=causal) == ["attn"]
    found = model["attn"]
    assert isinstance(found, TimmAttentionAdapter)
    return found


def test_the_attention_of_each_block_is_replaced() -> None:
    model = vision_transformer(WIDTH).double()
    assert replace_attention(model, LENGTH, causal=False) == ["blocks.0.attn", "blocks.1.attn"]
    u = source()
    first, second = model.blocks
    y = u + first.attn.mixer(first.norm1(u))
    y = y + second.attn.mixer(second.norm1(y))
    assert torch.equal(model(u), y)


def test_dropout_of_scores_and_of_the_output_go_where_they_were() -> None:
    attn = adapter(attn_drop=0.25, proj_drop=0.5)
    assert attn.mixer.dropout == 0.25
    attn.mixer.dropout, u = 0.0, source()
    y, expected = attn(u), attn.mixer(u)
    kept = y != 0
    assert 0.3 < kept.double().mean() < 0.7
    assert torch.equal(y[kept], 2 * expected[kept])
    assert torch.equal(attn.eval()(u), expected)


@pytest.mark.parametrize("side", ["left", "right", "both"])
@pytest.mark.parametrize("kind", ["bool", "infinite", "finite"])
@pytest.mark.parametrize("causal", [True, False])
def test_padded_equals_unpadded(causal: bool, kind: str, side: str) -> None:
    attn, u = adapter(causal), source()
    real = ~padding([LENGTH, 5, 1], side)
    mask = real[:, None, None].expand(-1, 1, LENGTH, -1)
    if causal and side == "both":  # a causal mask beside that of padding
        mask = mask & torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()
    if side == "left":  # padding that sees nothing, as timm has it, else all that is real
        mask = mask & mask.mT
    least = {"infinite": -torch.inf, "finite": torch.finfo(torch.float32).min}
    given = mask if kind == "bool" else torch.zeros(mask.shape).masked_fill(~mask, least[kind])
    y = attn(u, attn_mask=given)
    for row, keep, got in zip(u, real, y, strict=True):
        alone = attn.mixer(row[keep][None])[0]
        torch.testing.assert_close(got[keep], alone, rtol=1e-10, atol=1e-10)


def test_the_causal_mask_is_that_of_a_causal_operator() -> None:
    attn, u = adapter(causal=True), source()
    causal = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()
    assert torch.equal(attn(u, attn_mask=causal), attn.mixer(u))
    assert torch.equal(attn(u, is_causal=True), attn.mixer(u))


def test_what_a_bidirectional_operator_cannot_do_is_refused() -> None:
    attn, u = adapter(), source()
    with refuses(
        "TimmAttentionAdapter: got is_causal=True, but this Hyena operator is bidirectional; "
        "replace the attention with replace_attention(…, causal=True)"
    ):
        attn(u, is_causal=True)
    causal = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()
    with refuses(
        "TimmAttentionAdapter: the attn_mask is not one that Hyena can honour, which hides padding "
        "and nothing else; leave it out"
    ):
        attn(u, attn_mask=causal)


def test_other_masks_are_refused() -> None:
    attn, u = adapter(causal=True), source()
    band = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril().triu(-3)
    with refuses(
        "TimmAttentionAdapter: the attn_mask is not one that Hyena can honour, which hides "
        "padding, or padding and the future, and nothing else; leave it out"
    ):
        attn(u, attn_mask=band)
    with refuses(
        "TimmAttentionAdapter: expected attn_mask (12, 12) or (3, 1, 12, 12), got (3, 2, 12, 12)"
    ):
        attn(u, attn_mask=band.expand(3, 2, -1, -1))
    with refuses(
        "TimmAttentionAdapter: attn_mask holds values other than 0 and -3.40282e+38, but Hyena has "
        "no attention scores to add them to; pass only 0 and -3.40282e+38, or a bool mask"
    ):
        attn(u, attn_mask=torch.randn(LENGTH, LENGTH))


def test_attention_that_changes_the_width_has_no_counterpart() -> None:
    model = nn.ModuleDict({"attn": Attention(WIDTH, 2, dim_out=2 * WIDTH)})
    with refuses(
        "replace_attention: attn has no counterpart in Hyena (its output has 16 channels, its "
        "input 8); leave it out (names=)"
    ):
        replace_attention(model, LENGTH, causal=False)


def test_another_class_called_attention_is_left_alone() -> None:
    class Attention(nn.Linear):
        pass

    model = nn.ModuleDict({"attn": Attention(WIDTH, WIDTH), "mha": nn.MultiheadAttention(WIDTH, 2)})
    assert replace_attention(model, LENGTH, causal=False) == ["mha"]
    assert not any(isinstance(module, HyenaOperator) for module in model["attn"].modules())
