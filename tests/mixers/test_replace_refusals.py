"""What replace_attention refuses to replace."""

from typing import Any

import pytest
from encoders_with_hyena import HEADS, LENGTH, WIDTH, encoder, refuses, swapped
from torch import Tensor, nn

from hyena.filters import HyenaFilter
from hyena.mixers import CausalSelfAttention, HyenaOperator
from hyena.mixers.replacing.replace import replace_attention

LOOKED_FOR = (
    "replace_attention: found nothing to replace in the model; looked for "
    "torch.nn.MultiheadAttention, hyena.CausalSelfAttention, the attention of BERT, GPT-2 and ViT "
    "in transformers and of Vision Transformers in timm, but not for cross-attention"
)


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
        "subpattern"
    ):
        replace_attention(encoder(), LENGTH, causal=False, names="(")
    with refuses(
        "replace_attention: names='layers.2' matched none of the 2 self-attention modules: "
        "layers.0.self_attn, layers.1.self_attn"
    ):
        replace_attention(encoder(), LENGTH, causal=False, names=["layers.1", "layers.2"])


@pytest.mark.parametrize("names", [3, [], [0, 1], ["layers.0", None]], ids=str)
def test_names_are_texts_or_a_predicate(names: Any) -> None:
    model = encoder()
    with pytest.raises(
        ValueError, match=r"^replace_attention: expected as names a regular expression, a list of "
    ):
        replace_attention(model, LENGTH, causal=False, names=names)
    assert isinstance(model.layers[0].self_attn, nn.MultiheadAttention)


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


class OwnMixing(CausalSelfAttention):
    def _mix(self, u: Tensor, *rest: Any) -> tuple[Tensor, None]:
        return u, None


def patched() -> nn.MultiheadAttention:
    attention = nn.MultiheadAttention(WIDTH, HEADS)
    attention.forward = lambda *args, **kwargs: (args[0], None)  # type: ignore[method-assign]
    return attention


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
        (patched(), "MultiheadAttention has a forward of its own"),
        (OwnMixing(WIDTH), "OwnMixing has a forward of its own"),
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
        "replace_attention: mixer is a CausalSelfAttention that sees its past only, and "
        "causal=False would let it see the future; pass causal=True, or leave it out (names=)"
    ):
        replace_attention(model, LENGTH, causal=False)


def test_settings_that_the_operator_refuses_replace_nothing() -> None:
    model = encoder()
    with refuses("HyenaOperator: expected order ≥ 2, got 1"):
        replace_attention(model, LENGTH, causal=True, order=1)
    assert isinstance(model.layers[0].self_attn, nn.MultiheadAttention)


@pytest.mark.parametrize("make", [HyenaFilter, HyenaFilter(WIDTH, LENGTH), "hyena", lambda w: None])
def test_a_filter_is_made_by_a_function_of_the_width(make: Any) -> None:
    with pytest.raises(TypeError, match=r"^replace_attention: expected as filter a function that"):
        replace_attention(encoder(), LENGTH, causal=True, filter=make)


def test_a_model_is_a_module() -> None:
    with pytest.raises(TypeError, match=r"^replace_attention: expected a module as model, got 'x'"):
        replace_attention("x", LENGTH, causal=True)  # type: ignore[arg-type]
