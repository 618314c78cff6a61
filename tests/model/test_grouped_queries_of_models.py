"""A model's attention layers are of the kind that its configuration names."""

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from comparison import assert_close
from small_models import small_model, tokens

import hyena
from hyena.cli.model_facts import describe
from hyena.generation import load_state, save_state
from hyena.mixers import CausalSelfAttention
from hyena.model import LanguageModel, ModelConfig
from hyena.model.build import without_effect

OPTIONS: dict[str, Any] = {
    "kv_heads": 1,
    "rotary_base": 100.0,
    "rotary_scale": 4.0,
    "in_proj_bias": False,
}


def attention(model: LanguageModel) -> CausalSelfAttention:
    return cast(CausalSelfAttention, model.blocks[0].mixer)


def test_the_layers_are_as_configured() -> None:
    mixer = attention(small_model("attention", **OPTIONS))
    assert (mixer.heads, mixer.kv_heads, mixer.head_dim) == (3, 1, 4)
    assert (mixer.rotary_base, mixer.rotary_scale) == (100.0, 4.0)
    assert mixer.in_proj.bias is None
    plain = attention(small_model("attention"))
    assert (plain.kv_heads, plain.rotary_base, plain.rotary_scale) == (3, 10000.0, 1.0)
    assert plain.in_proj.bias is not None


@pytest.mark.parametrize("mixers", ["attention", "hyena,attention"])
@torch.no_grad()
def test_generation_equals_forward(mixers: str) -> None:
    model, ids = small_model(mixers, **OPTIONS, order=2), tokens(2, 12)
    expected = model(ids)
    for prompt in (1, 5):
        logits, state = model.prefill(ids[:, :prompt])
        assert_close(logits, expected[:, :prompt], 1e-10)
        logits, state = model.prefill(ids[:, prompt : prompt + 3], state=state)
        assert_close(logits, expected[:, prompt : prompt + 3], 1e-10)
        for t in range(prompt + 3, 12):
            logits, state = model.step(ids[:, t], state)
            assert_close(logits, expected[:, t], 1e-10)


@torch.no_grad()
def test_documents_and_padding_are_as_rows_of_their_own() -> None:
    model, ids = small_model("attention", **OPTIONS), tokens(1, 11)
    documents = torch.tensor([[0] * 4 + [1] * 7])
    apart = torch.cat([model(ids[:, :4]), model(ids[:, 4:])], dim=1)
    assert_close(model(ids, document_ids=documents), apart, 1e-12)
    padded = torch.cat([tokens(1, 3, seed=1), ids], dim=1)
    mask = torch.tensor([[False] * 3 + [True] * 11])
    assert_close(model(padded, mask=mask)[:, 3:], model(ids), 1e-10)


@torch.no_grad()
def test_model_and_state_are_saved(tmp_path: Path) -> None:
    model, ids = small_model("attention", **OPTIONS), tokens(2, 6)
    model.save(tmp_path / "model")
    again = hyena.load(tmp_path / "model")
    assert again.config == model.config
    expected = model(ids)
    assert torch.equal(again(ids), expected)
    _, state = model.prefill(ids[:, :5])
    save_state(state, tmp_path / "state.safetensors")
    loaded = load_state(tmp_path / "state.safetensors")
    assert_close(again.step(ids[:, 5], loaded)[0], expected[:, 5], 1e-10)
    assert model.state_size(100) == 3 * 2 * 4 * 100  # layers; keys and values; of one head


def test_a_state_of_other_heads_is_refused() -> None:
    with torch.no_grad():
        _, state = small_model("attention").prefill(tokens(1, 3))
        with pytest.raises(ValueError, match="is that of a mixer of another kind or size"):
            small_model("attention", **OPTIONS).step(tokens(1), state)


def test_operations_and_facts_follow() -> None:
    model = small_model("attention", **OPTIONS)
    layer = model.flops(8).executed.layers[0]
    assert layer["projections"] == 2 * 12 * (12 + 2 * 4) * 8
    text = describe(model, 8, 1)
    for name, value in (("kv_heads", "1"), ("rotary_base", "100.0"), ("rotary_scale", "4.0")):
        assert any(line.split() == [name, value] for line in text.splitlines())


def test_options_of_attention_have_no_effect_without_it() -> None:
    config = ModelConfig(mixers="rwkv", width=32, head_dim=16, **OPTIONS)
    assert {"kv_heads", "rotary_base", "rotary_scale"} <= set(without_effect(config))


def test_heads_that_do_not_divide_are_refused_by_the_name_of_the_option() -> None:
    with pytest.raises(ValueError, match=r"^model\.kv_heads: expected a divisor of the 3 heads"):
        ModelConfig(mixers="attention", width=12, head_dim=4, kv_heads=2)
