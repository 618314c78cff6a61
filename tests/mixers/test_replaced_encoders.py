"""What an encoder computes whose attention has been replaced."""

import pytest
import torch
from encoders_with_hyena import (
    HEADS,
    LENGTH,
    adapter,
    as_float,
    causal_mask,
    padding,
    source,
    swapped,
)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("side", ["left", "right", "both"])
@pytest.mark.parametrize("kind", ["bool", "float"])
def test_padded_equals_unpadded(training: bool, causal: bool, side: str, kind: str) -> None:
    model = swapped(causal, nested=True).train(training)
    lengths = [LENGTH, 5, 1]
    u, pad = source(), padding(lengths, side)
    u = u.masked_fill(pad[..., None], 1e3)
    with torch.no_grad():
        together = model(u, src_key_padding_mask=pad if kind == "bool" else as_float(pad))
        for row, ignored, y in zip(u, pad, together, strict=True):
            alone = model(row[~ignored][None])[0]
            torch.testing.assert_close(y[~ignored], alone, rtol=1e-10, atol=1e-10)


def test_unbatched_padded_equals_unpadded() -> None:
    mha = adapter()
    u, pad = source(1)[0], padding([7], "left")[0]
    for ignored in (pad, as_float(pad)):
        y, weights = mha(u, u, u, key_padding_mask=ignored, need_weights=False)
        assert weights is None
        alone = mha.mixer(u[None, ~pad])[0]
        torch.testing.assert_close(y[~pad], alone, rtol=1e-10, atol=1e-10)


def test_layouts_agree() -> None:
    mha = adapter()
    other = adapter(batch_first=False)
    other.load_state_dict(mha.state_dict())
    u, pad = source(), padding([LENGTH, 5, 9], "left")
    expected = mha.mixer(u, mask=~pad)
    y, _ = mha(u, u, u, pad, need_weights=False)
    assert torch.equal(y, expected)
    v = u.transpose(0, 1)
    y, _ = other(v, v, v, pad, need_weights=False)
    assert torch.equal(y, expected.transpose(0, 1))


@pytest.mark.parametrize("kind", ["bool", "float"])
@pytest.mark.parametrize("training", [True, False])
def test_a_causal_encoder_is_causal(kind: str, training: bool) -> None:
    model = swapped(causal=True).train(training)
    mask = causal_mask() if kind == "bool" else as_float(causal_mask())
    u = source(1)
    v = u.clone()
    v[:, 6] += 1.0
    with torch.no_grad():
        change = (model(u, mask=mask) - model(v, mask=mask)).abs().amax((0, 2))
        assert torch.equal(model(u, mask=mask), model(u))  # the mask says what is so anyway
    assert change[:6].amax() < 1e-12
    assert change[6:].amin() > 1e-6


@pytest.mark.parametrize("training", [True, False])
def test_a_bidirectional_encoder_sees_both_ways(training: bool) -> None:
    model = swapped().train(training)
    u = source(1)
    v = u.clone()
    v[:, 6] += 1.0
    with torch.no_grad():
        change = (model(u) - model(v)).abs().amax((0, 2))
    assert change.amin() > 1e-6


@pytest.mark.parametrize("is_causal", [True, False])
@pytest.mark.parametrize("stacked", [True, False])
@pytest.mark.parametrize("kind", ["bool", "float"])
def test_every_form_of_the_causal_mask_is_accepted(
    kind: str, stacked: bool, is_causal: bool
) -> None:
    mha = adapter(causal=True)
    mask = causal_mask() if kind == "bool" else as_float(causal_mask())
    u = source()
    batched = mask.expand(3 * HEADS, -1, -1) if stacked else mask
    y, _ = mha(u, u, u, attn_mask=batched, is_causal=is_causal, need_weights=False)
    assert torch.equal(y, mha.mixer(u))
    u = u[0]
    unbatched = mask.expand(HEADS, -1, -1) if stacked else mask
    y, _ = mha(u, u, u, attn_mask=unbatched, is_causal=is_causal, need_weights=False)
    assert torch.equal(y, mha.mixer(u[None])[0])


def test_a_mask_of_nothing_is_accepted_if_bidirectional() -> None:
    mha, u = adapter(), source()
    nothing = torch.zeros(LENGTH, LENGTH)
    y, _ = mha(u, u, u, attn_mask=nothing, need_weights=False)
    assert torch.equal(y, mha.mixer(u))
    u = source(1, 1)  # of one position, the causal mask is a mask of nothing
    mha(u, u, u, attn_mask=causal_mask(1), is_causal=True, need_weights=False)


def test_views_of_one_tensor_are_self_attention() -> None:
    mha, u = adapter(batch_first=False), source()
    y, _ = mha(u.transpose(0, 1), u.transpose(0, 1), u.transpose(0, 1), need_weights=False)
    assert torch.equal(y, mha.mixer(u).transpose(0, 1))
    seen = []
    mha.register_full_backward_hook(lambda *_: seen.append(1))  # hands over three views
    u.requires_grad_()
    mha(u, u, u, need_weights=False)[0].sum().backward()
    assert seen == [1]
    (expected,) = torch.autograd.grad(mha.mixer(u.transpose(0, 1)).sum(), u)
    torch.testing.assert_close(u.grad, expected)


def test_gradients_reach_the_operators_and_an_optimizer_moves_them() -> None:
    model = swapped(nested=True)
    operators = {n: p for n, p in model.named_parameters() if ".mixer." in n and p.requires_grad}
    assert any("filter" in n for n in operators)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    in_optimizer = {id(p) for group in optimizer.param_groups for p in group["params"]}
    before = {n: p.detach().clone() for n, p in operators.items()}
    y = model(source(), src_key_padding_mask=padding([LENGTH, 5, 9], "right"))
    (y * torch.randn_like(y)).sum().backward()
    optimizer.step()
    for name, parameter in operators.items():
        assert id(parameter) in in_optimizer
        assert parameter.grad is not None, name
        assert parameter.grad.abs().amax() > 0, name
        assert not torch.equal(parameter, before[name]), name
