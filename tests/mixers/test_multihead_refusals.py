"""What a replaced attention refuses to be called with."""

import pytest
import torch
from encoders_with_hyena import (
    HEADS,
    LENGTH,
    adapter,
    as_float,
    causal_mask,
    refuses,
    source,
    swapped,
)
from torch import Tensor

NOT_SELF = (
    "MultiheadAttentionAdapter: Hyena replaces self-attention only, but key or value is not query; "
    "pass the same tensor three times, or leave this module out of replace_attention (names=)"
)


def test_cross_attention_is_refused() -> None:
    mha, u = adapter(), source()
    part = u[:, :5]
    for key, value in [(source(), u), (u, source()), (part, part), (u.clone(), u), (u.float(), u)]:
        with refuses(NOT_SELF):
            mha(u, key, value, need_weights=False)


def test_weights_are_refused() -> None:
    mha, u = adapter(), source()
    for arguments in ({}, {"need_weights": True}):
        with refuses(
            "MultiheadAttentionAdapter: Hyena has no attention weights to return; call with "
            "need_weights=False (the default of torch.nn.MultiheadAttention is True)"
        ):
            mha(u, u, u, **arguments)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("kind", ["bool", "float"])
def test_padding_between_real_tokens_is_refused(kind: str, causal: bool) -> None:
    ignored = torch.zeros(3, LENGTH, dtype=torch.bool)
    ignored[1, 4] = ignored[1, -1] = True
    with refuses(
        "HyenaOperator: expected padding at the ends of each row or packed document, got padding "
        "between real tokens; move the real tokens together"
    ):
        swapped(causal)(
            source(), src_key_padding_mask=ignored if kind == "bool" else as_float(ignored)
        )


@pytest.mark.parametrize("form", ["hint", "bool", "float", "stacked"])
def test_a_causal_mask_is_refused_if_bidirectional(form: str) -> None:
    mha, u = adapter(), source()
    mask = {
        "hint": None,
        "bool": causal_mask(),
        "float": as_float(causal_mask()),
        "stacked": causal_mask().expand(3 * HEADS, -1, -1),
    }[form]
    got = "is_causal=True" if form == "hint" else "a causal attn_mask"
    with refuses(
        f"MultiheadAttentionAdapter: got {got}, but this Hyena operator is bidirectional; replace "
        "the attention with replace_attention(…, causal=True)"
    ):
        mha(u, u, u, attn_mask=mask, is_causal=form == "hint", need_weights=False)


@pytest.mark.parametrize("training", [True, False])
def test_an_encoder_with_a_causal_mask_is_refused_if_bidirectional(training: bool) -> None:
    model = swapped().train(training)
    with (
        torch.no_grad(),
        pytest.raises(ValueError, match=r"bidirectional; replace .* causal=True\)$"),
    ):
        model(source(), mask=causal_mask())


def almost_causal() -> Tensor:
    mask = causal_mask()
    mask[7, 3] = True
    return mask


def one_slice_differs() -> Tensor:
    stacked = causal_mask().repeat(3 * HEADS, 1, 1)
    stacked[-1, 0, -1] = False
    return stacked


@pytest.mark.parametrize(
    "mask",
    [
        almost_causal(),
        as_float(almost_causal()),
        one_slice_differs(),
        torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(2),
        causal_mask().T,
        torch.zeros(LENGTH, LENGTH),
    ],
)
@pytest.mark.parametrize("is_causal", [True, False])
def test_another_mask_is_refused_whatever_the_hint_says(mask: Tensor, is_causal: bool) -> None:
    mha, u = adapter(causal=True), source()
    with refuses(
        "MultiheadAttentionAdapter: the attn_mask is not one that Hyena can honour, which is the "
        "causal mask here; leave it out, and pass padding as key_padding_mask "
        "(src_key_padding_mask)"
    ):
        mha(u, u, u, attn_mask=mask, is_causal=is_causal, need_weights=False)


def test_another_mask_is_refused_if_bidirectional() -> None:
    mha, u = adapter(), source()
    with refuses(
        "MultiheadAttentionAdapter: the attn_mask is not one that Hyena can honour, which is a "
        "mask of nothing here; leave it out, and pass padding as key_padding_mask "
        "(src_key_padding_mask)"
    ):
        mha(u, u, u, attn_mask=almost_causal(), need_weights=False)


@pytest.mark.parametrize("name", ["attn_mask", "key_padding_mask"])
@pytest.mark.parametrize("value", [-1.0, 0.5, -1e9, float("inf"), float("nan")])
def test_additive_masks_are_refused(name: str, value: float) -> None:
    mha, u = adapter(causal=True), source()
    mask = as_float(causal_mask()) if name == "attn_mask" else torch.zeros(3, LENGTH)
    mask[1, 3] = value
    with refuses(
        f"MultiheadAttentionAdapter: {name} holds values other than 0 and -inf, but Hyena has no "
        "attention scores to add them to; pass only 0 and -inf, or a bool mask"
    ):
        mha(u, u, u, **{name: mask}, need_weights=False)


@pytest.mark.parametrize("name", ["attn_mask", "key_padding_mask"])
def test_integer_masks_are_refused(name: str) -> None:
    mha, u = adapter(causal=True), source()
    shape = (LENGTH, LENGTH) if name == "attn_mask" else (3, LENGTH)
    with refuses(
        f"MultiheadAttentionAdapter: expected {name} of bool (True = ignore) or float (-inf = "
        "ignore), got torch.int64; mask.bool() makes it one"
    ):
        mha(u, u, u, **{name: torch.zeros(shape, dtype=torch.int64)}, need_weights=False)


def test_shapes_that_do_not_fit_are_refused() -> None:
    mha, u = adapter(causal=True), source()
    with refuses(
        "MultiheadAttentionAdapter: expected attn_mask (12, 12) or (6, 12, 12), got (3, 12, 12)"
    ):
        mha(u, u, u, attn_mask=causal_mask().expand(3, -1, -1), need_weights=False)
    with refuses("MultiheadAttentionAdapter: expected key_padding_mask (3, 12), got (12, 3)"):
        mha(u, u, u, torch.zeros(LENGTH, 3, dtype=torch.bool), need_weights=False)
    row = u[0]
    with refuses("MultiheadAttentionAdapter: expected key_padding_mask (12,), got (1, 12)"):
        mha(row, row, row, torch.zeros(1, LENGTH, dtype=torch.bool), need_weights=False)
    flat = u.flatten()
    with refuses(
        "MultiheadAttentionAdapter: expected a query of two (unbatched) or three dimensions, got "
        "(288,)"
    ):
        mha(flat, flat, flat, need_weights=False)


def test_too_long_an_input_is_refused() -> None:
    mha, u = adapter(max_length=LENGTH - 1), source()
    with pytest.raises(ValueError, match="the input is 12 long but max_length is 11"):
        mha(u, u, u, need_weights=False)
