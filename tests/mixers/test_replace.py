"""replace_attention: what is swapped, that nothing bypasses the swap, and what is refused."""

import copy
import itertools
import re
import runpy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from hyena.filters import HyenaFilter
from hyena.mixers import CausalSelfAttention, HyenaOperator
from hyena.mixers.multihead import MultiheadAttentionAdapter
from hyena.mixers.replace import replace_attention

WIDTH, HEADS, LENGTH = 8, 2, 12
LOOKED_FOR = (
    "replace_attention: found nothing to replace in the model; looked for "
    "torch.nn.MultiheadAttention (but not the cross-attention of torch.nn.TransformerDecoderLayer) "
    "and hyena.CausalSelfAttention"
)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def encoder(
    layers: int = 2, *, batch_first: bool = True, norm_first: bool = False, nested: bool = False
) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(
        WIDTH, HEADS, 16, dropout=0.0, batch_first=batch_first, norm_first=norm_first
    )
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=nested)


def swapped(causal: bool = False, **options: bool) -> nn.TransformerEncoder:
    model = encoder(**options).double()
    replace_attention(model, LENGTH, causal=causal)
    return model


def adapter(
    causal: bool = False, *, batch_first: bool = True, max_length: int = LENGTH
) -> MultiheadAttentionAdapter:
    model = nn.ModuleDict({"mha": nn.MultiheadAttention(WIDTH, HEADS, batch_first=batch_first)})
    assert replace_attention(model, max_length, causal=causal) == ["mha"]
    mha = model["mha"].double()
    assert isinstance(mha, MultiheadAttentionAdapter)
    return mha


def source(batch: int = 3, length: int = LENGTH) -> Tensor:
    return torch.randn(batch, length, WIDTH, dtype=torch.float64)


def causal_mask(length: int = LENGTH) -> Tensor:
    """In PyTorch's terms: True where a position may not look."""
    return torch.ones(length, length, dtype=torch.bool).triu(1)


def as_float(mask: Tensor) -> Tensor:
    return torch.zeros(mask.shape, dtype=torch.float64).masked_fill(mask, -torch.inf)


def padding(lengths: list[int], side: str) -> Tensor:
    """In PyTorch's terms: True at padding."""
    n = torch.arange(LENGTH)
    real = torch.stack([n < k if side == "right" else n >= LENGTH - k for k in lengths])
    return ~real


def hyena_calls(model: nn.Module) -> list[int]:
    """A list that grows by one at each call of a Hyena operator in the model."""
    calls: list[int] = []
    for module in model.modules():
        if isinstance(module, HyenaOperator):
            forward = module.forward

            # Not a hook: a hook would itself keep TransformerEncoderLayer from its fused kernel.
            def counted(*args: object, forward=forward, **kwargs: object) -> Tensor:
                calls.append(1)
                return forward(*args, **kwargs)

            module.forward = counted
    return calls


# What is swapped


def test_names_are_returned_in_order_and_modules_swapped() -> None:
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), encoder())
    assert replace_attention(model, LENGTH, causal=False) == [
        "1.layers.0.self_attn",
        "1.layers.1.self_attn",
    ]
    assert not any(isinstance(m, nn.MultiheadAttention) for m in model.modules())
    assert sum(isinstance(m, HyenaOperator) for m in model.modules()) == 2


def test_settings_reach_the_operator() -> None:
    model = encoder(1)
    replace_attention(
        model,
        100,
        causal=True,
        order=3,
        short_width=5,
        length_policy="extrapolate",
        backend="naive",
    )
    mixer = model.layers[0].self_attn.mixer
    assert (mixer.order, mixer.short_width, mixer.max_length) == (3, 5, 100)
    assert (mixer.backend, mixer.filter.length_policy) == ("naive", "extrapolate")
    assert not mixer.bidirectional


@pytest.mark.parametrize(("given", "expected"), [(None, 0.25), (0.5, 0.5), (0.0, 0.0)])
def test_dropout_is_that_of_the_module_replaced_unless_given(
    given: float | None, expected: float
) -> None:
    model = nn.ModuleList([nn.MultiheadAttention(WIDTH, HEADS, dropout=0.25)])
    replace_attention(model, LENGTH, causal=True, dropout=given)
    assert model[0].mixer.dropout == expected


def test_a_filter_is_made_for_each_operator_of_its_width() -> None:
    model = nn.ModuleList([nn.MultiheadAttention(w, 2, dtype=torch.float64) for w in (4, 6)])
    replace_attention(
        model,
        LENGTH,
        causal=True,
        order=3,
        filter=lambda width: HyenaFilter(width, LENGTH, filters=2, sine_freq=3.0),
    )
    filters = [m.mixer.filter for m in model]
    assert [f.channels for f in filters] == [4, 6]
    assert filters[0].sine_freq.unique().tolist() == [3.0]
    assert filters[0].sine_freq.dtype == torch.float64


def test_cross_attention_of_a_decoder_layer_is_left_alone() -> None:
    model = nn.Transformer(WIDTH, HEADS, 1, 1, 16, dropout=0.0, batch_first=True).double()
    cross = model.decoder.layers[0].multihead_attn
    names = replace_attention(model, LENGTH, causal=True, names=r"^decoder\.")
    assert names == ["decoder.layers.0.self_attn"]
    names = replace_attention(model, LENGTH, causal=False)
    assert names == ["encoder.layers.0.self_attn"]
    assert model.decoder.layers[0].multihead_attn is cross
    y = model(source(), source(length=7), tgt_mask=as_float(causal_mask(7)))
    assert y.shape == (3, 7, WIDTH)

    layer = nn.TransformerDecoderLayer(WIDTH, HEADS)
    assert replace_attention(layer, LENGTH, causal=True) == ["self_attn"]


def test_names_choose_by_pattern_or_predicate() -> None:
    model = encoder(3)
    assert replace_attention(model, LENGTH, causal=False, names="layers.1") == [
        "layers.1.self_attn"
    ]
    last = replace_attention(
        model, LENGTH, causal=False, names=lambda name, module: module.batch_first and "2" in name
    )
    assert last == ["layers.2.self_attn"]
    assert isinstance(model.layers[0].self_attn, nn.MultiheadAttention)


def test_own_attention_is_replaced_by_the_operator_itself() -> None:
    model = nn.ModuleDict({"mixer": CausalSelfAttention(WIDTH, head_dim=4, dropout=0.25)}).double()
    assert replace_attention(model, LENGTH, causal=True) == ["mixer"]
    mixer = model["mixer"]
    assert isinstance(mixer, HyenaOperator)
    assert (mixer.width, mixer.dropout, mixer.bidirectional) == (WIDTH, 0.25, False)
    assert mixer(source()).dtype == torch.float64


def test_a_shared_module_stays_shared() -> None:
    shared = nn.MultiheadAttention(WIDTH, HEADS)
    model = nn.ModuleDict({"a": shared, "b": nn.ModuleList([shared])})
    model["c"] = nn.MultiheadAttention(WIDTH, HEADS)
    assert replace_attention(model, LENGTH, causal=True) == ["a", "b.0", "c"]
    assert model["a"] is model["b"][0]
    assert model["a"] is not model["c"]

    layer = nn.TransformerEncoderLayer(WIDTH, HEADS)
    model = nn.ModuleList([layer, layer])
    assert replace_attention(model, LENGTH, causal=True) == ["0.self_attn", "1.self_attn"]
    assert isinstance(layer.self_attn, MultiheadAttentionAdapter)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("causal", [True, False])
def test_device_dtype_and_mode_are_kept(
    dtype: torch.dtype, device: str, training: bool, causal: bool
) -> None:
    model = encoder(1).to(device, dtype).train(training)
    replace_attention(model, LENGTH, causal=causal)
    tensors = [*model.parameters(), *model.buffers()]
    assert {(t.device.type, t.dtype) for t in tensors} == {(device, dtype)}
    assert {m.training for m in model.modules()} == {training}
    u = torch.zeros(2, LENGTH, WIDTH, device=device, dtype=dtype)
    pad = torch.zeros(2, LENGTH, dtype=torch.bool, device=device)
    with torch.no_grad():
        y = model(u, src_key_padding_mask=pad)
    assert (y.shape, y.dtype, y.device.type) == (u.shape, dtype, device)


def test_order_of_siblings_is_kept() -> None:
    model = nn.Sequential(nn.Linear(1, 1), encoder(1), nn.ReLU())
    layer = model[1].layers[0]
    before = list(layer._modules)
    replace_attention(model, LENGTH, causal=False)
    assert list(layer._modules) == before


def test_state_dict_round_trip() -> None:
    first, second = swapped(), swapped()
    u = source()
    first.eval(), second.eval()
    assert not torch.equal(first(u), second(u))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(u), second(u))
    names = [n for n, _ in first.named_parameters() if "self_attn" in n]
    assert names
    assert all(".self_attn.mixer." in n for n in names)  # each once, under the mixer
    assert torch.equal(copy.deepcopy(first)(u), first(u))


# Nothing bypasses the swap


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


# What it computes


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("side", ["left", "right"])
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


# What is refused when replacing


def refuses(message: str) -> "pytest.RaisesExc[ValueError]":
    return pytest.raises(ValueError, match=f"^{re.escape(message)}$")


@pytest.mark.parametrize(
    "model", [nn.Linear(2, 2), nn.Sequential(), HyenaOperator(WIDTH, LENGTH)], ids=str
)
def test_nothing_to_replace_is_an_error(model: nn.Module) -> None:
    with refuses(LOOKED_FOR):
        replace_attention(model, LENGTH, causal=True)


def test_replacing_twice_is_an_error() -> None:
    with refuses(LOOKED_FOR):
        replace_attention(swapped(), LENGTH, causal=False)


def test_names_that_match_nothing_are_an_error() -> None:
    with refuses(
        "replace_attention: names='layer_1' matched none of the 2 self-attention modules: "
        "layers.0.self_attn, layers.1.self_attn"
    ):
        replace_attention(encoder(), LENGTH, causal=False, names="layer_1")
    with refuses(
        "replace_attention: names=the predicate matched none of the 6 self-attention modules: "
        "layers.0.self_attn, layers.1.self_attn, layers.2.self_attn, layers.3.self_attn, "
        "layers.4.self_attn, …"
    ):
        replace_attention(encoder(6), LENGTH, causal=False, names=lambda name, module: False)
    with refuses(
        "replace_attention: names='(' is not a regular expression: missing ), unterminated "
        "subpattern at position 0"
    ):
        replace_attention(encoder(), LENGTH, causal=False, names="(")


@pytest.mark.parametrize("model", [nn.MultiheadAttention(WIDTH, HEADS), CausalSelfAttention(WIDTH)])
def test_the_model_itself_cannot_be_replaced(model: nn.Module) -> None:
    with refuses(
        f"replace_attention: the model itself is a {type(model).__name__}, which cannot be "
        "replaced in place; pass the module that holds it"
    ):
        replace_attention(model, LENGTH, causal=True)


class OwnForward(nn.MultiheadAttention):
    def forward(self, *args: object, **kwargs: object) -> None:  # type: ignore[override]
        return None


@pytest.mark.parametrize(
    ("attention", "reason"),
    [
        (
            nn.MultiheadAttention(WIDTH, HEADS, kdim=4),
            "kdim=4 or vdim=8 differs from embed_dim=8",
        ),
        (
            nn.MultiheadAttention(WIDTH, HEADS, vdim=4),
            "kdim=8 or vdim=4 differs from embed_dim=8",
        ),
        (nn.MultiheadAttention(WIDTH, HEADS, add_bias_kv=True), "add_bias_kv=True"),
        (nn.MultiheadAttention(WIDTH, HEADS, add_zero_attn=True), "add_zero_attn=True"),
        (OwnForward(WIDTH, HEADS), "OwnForward has a forward of its own"),
    ],
)
def test_attention_without_counterpart_is_named_and_nothing_is_replaced(
    attention: nn.Module, reason: str
) -> None:
    model = nn.ModuleDict({"fine": nn.MultiheadAttention(WIDTH, HEADS), "odd": attention})
    with refuses(
        f"replace_attention: odd has no counterpart in Hyena ({reason}); leave it out (names=)"
    ):
        replace_attention(model, LENGTH, causal=True)
    assert isinstance(model["fine"], nn.MultiheadAttention)
    assert replace_attention(model, LENGTH, causal=True, names="fine") == ["fine"]


def test_own_causal_attention_is_not_made_to_see_the_future() -> None:
    model = nn.ModuleDict({"mixer": CausalSelfAttention(WIDTH)})
    with refuses(
        "replace_attention: mixer is a CausalSelfAttention, so causal=False would let it see the "
        "future; pass causal=True, or leave it out (names=)"
    ):
        replace_attention(model, LENGTH, causal=False)


def test_settings_that_the_operator_refuses_replace_nothing() -> None:
    model = encoder()
    with refuses(
        "HyenaOperator: expected width ≥ 1, order ≥ 2 and short_width ≥ 1, got width=8, "
        "order=1, short_width=3"
    ):
        replace_attention(model, LENGTH, causal=True, order=1)
    assert isinstance(model.layers[0].self_attn, nn.MultiheadAttention)


# What is refused when calling


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
        f"MultiheadAttentionAdapter: {name} must be bool (True = ignore) or float "
        "(-inf = ignore), got torch.int64"
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


# The example


def test_the_example_learns(capsys: pytest.CaptureFixture[str]) -> None:
    example = Path(__file__).parents[2] / "examples" / "replace_attention.py"
    first, last = runpy.run_path(str(example))["main"]()
    assert last < 0.5 * first  # guessing stays at log(8), close to the first
    assert "replaced: encoder.layers.0.self_attn, encoder.layers.1.self_attn" in (
        capsys.readouterr().out
    )
