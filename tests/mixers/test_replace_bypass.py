"""Nothing bypasses the swap: PyTorch's fused encoder and its nested tensors."""

import itertools
import re

import pytest
import torch
from encoders_with_hyena import (
    HEADS,
    LENGTH,
    WIDTH,
    as_float,
    causal_mask,
    encoder,
    hyena_calls,
    padding,
    source,
    swapped,
)
from torch import nn

from hyena.mixers.replacing.replace import replace_attention

ENCODERS = [
    pytest.param(dict(zip(("batch_first", "norm_first", "nested"), values, strict=True)))
    for values in itertools.product([True, False], repeat=3)
    # PyTorch warns at construction that these cannot make nested tensors.
    if not (values[2] and (values[1] or not values[0]))
]


@pytest.mark.parametrize("mask", [None, "padding", "causal", "both"])
@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("options", ENCODERS)
def test_an_encoder_runs_hyena_alike_in_training_and_evaluation(
    options: dict[str, bool], grad: bool, mask: str | None
) -> None:
    causal = mask in ("causal", "both")
    model = swapped(causal, **options)
    calls = hyena_calls(model)
    u = source()
    u = u if options["batch_first"] else u.transpose(0, 1)
    arguments: dict[str, object] = {}
    if mask in ("padding", "both"):
        # Left-aligned, full length included: what the encoder would make nested tensors of.
        pad = padding([LENGTH, 5, 9], "right")
        arguments["src_key_padding_mask"] = as_float(pad) if mask == "both" else pad
    if causal:
        arguments |= {"mask": as_float(causal_mask()), "is_causal": True}
    with torch.set_grad_enabled(grad):
        trained = model.train()(u, **arguments)
        assert len(calls) == 2
        evaluated = model.eval()(u, **arguments)
        assert len(calls) == 4
        single = model.layers[0](
            u, **{"src_mask" if k == "mask" else k: v for k, v in arguments.items()}
        )
        assert len(calls) == 5
    assert single.shape == u.shape
    assert not evaluated.is_nested
    torch.testing.assert_close(trained, evaluated, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_the_fused_kernel_would_run_without_the_swap(nested: bool) -> None:
    """Otherwise the test above would prove nothing: forward of attention is never called here."""
    model = encoder(nested=nested).double().eval()
    calls = []
    for layer in model.layers:
        layer.self_attn.forward = lambda *args, **kwargs: calls.append(1)
    with torch.no_grad():
        model(source(), src_key_padding_mask=padding([LENGTH, 5, 9], "right"))
    assert not calls


@pytest.mark.parametrize("training", [True, False])
def test_the_output_depends_on_the_filter(training: bool) -> None:
    model = swapped(nested=True).train(training)
    u, pad = source(), padding([LENGTH, 5, 9], "right")
    with torch.no_grad():
        before = model(u, src_key_padding_mask=pad)
        model.layers[1].self_attn.mixer.two_sided_filter.skip.add_(1.0)
        after = model(u, src_key_padding_mask=pad)
    assert (before - after).abs().amax() > 1e-3


def test_an_encoder_replaced_in_part_makes_no_nested_tensors() -> None:
    model = encoder(nested=True).double().eval()
    assert model.use_nested_tensor
    replace_attention(model, LENGTH, causal=False, names="layers.1")
    assert not model.use_nested_tensor
    calls = hyena_calls(model)
    with torch.no_grad():
        y = model(source(), src_key_padding_mask=padding([LENGTH, 5, 9], "right"))
    assert calls == [1]
    assert y.shape == (3, LENGTH, WIDTH)


def test_an_encoder_without_replaced_layers_keeps_its_nested_tensors() -> None:
    model = nn.ModuleList([encoder(1, nested=True), encoder(1, nested=True)])
    replace_attention(model, LENGTH, causal=False, names="^0")
    assert [m.use_nested_tensor for m in model] == [False, True]


def test_an_encoder_made_of_a_replaced_layer_makes_no_nested_tensors() -> None:
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, batch_first=True)
    replace_attention(layer, LENGTH, causal=False)
    with pytest.warns(UserWarning, match="_qkv_same_embed_dim was not True"):
        model = nn.TransformerEncoder(layer, 2)
    assert not model.use_nested_tensor


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_an_encoder_that_was_not_told_gets_a_clear_error_or_runs() -> None:
    model = encoder(nested=True).double().eval()
    replace_attention(model.layers, LENGTH, causal=False)
    pad = padding([LENGTH, 5, 9], "right")
    assert model(source(), src_key_padding_mask=pad).shape == (3, LENGTH, WIDTH)  # with gradients
    message = (
        "MultiheadAttentionAdapter: got a nested tensor; pass a padded tensor with its padding "
        "mask, and call replace_attention on the whole TransformerEncoder, so that it stops making "
        "nested tensors of them"
    )
    with torch.no_grad(), pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        model(source(), src_key_padding_mask=pad)
