"""A saved state goes on exactly where it was."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import hyena
from hyena.generation import load_state, save_state
from hyena.mixers import AFTConv
from hyena.model import FilterConfig, LanguageModel, ModelConfig, ModelState
from hyena.model.config import MIXERS

FORMAT_1 = Path(__file__).parent / "format_1"


def build(mixers: str = "hyena,attention") -> LanguageModel:
    config = ModelConfig(
        vocab_size=20,
        width=8,
        layers=2,
        mlp_width=8,
        head_dim=4,
        max_length=16,
        order=3,
        mixers=mixers,
        filter=FilterConfig(emb_dim=3, width=4, depth=2),
    )
    return LanguageModel(config, generator=torch.Generator().manual_seed(0)).eval()


def prefilled(model):
    ids = torch.tensor([[0, 0, 3, 4], [5, 6, 7, 8]])
    mask = torch.tensor([[False, False, True, True], [True] * 4])
    return model.prefill(ids, mask=mask)[1]


@pytest.mark.parametrize("mixers", ["hyena,attention", *MIXERS])
@torch.no_grad()
def test_a_saved_state_goes_on_bit_for_bit(tmp_path, mixers):
    model = build(mixers)
    state = prefilled(model)
    save_state(state, tmp_path / "state.safetensors")
    token = torch.tensor([1, 2])
    expected, _ = model.step(token, state)
    loaded = load_state(tmp_path / "state.safetensors")
    assert [type(layer) for layer in loaded.layers] == [type(layer) for layer in state.layers]
    found, after = model.step(token, loaded)
    assert torch.equal(found, expected)
    assert after.length == 5


@torch.no_grad()
def test_the_names_in_a_file(tmp_path):
    # of version 1, so that they may not change
    ids = torch.tensor([[5, 6, 7, 8]])
    for mixers, names in {
        "hyena,attention": [
            "layers.0.inputs.0",
            "layers.0.inputs.1",
            "layers.0.short",
            "layers.1.k",
            "layers.1.v",
        ],
        "rwkv,linear-attention": [
            "layers.0.denominator",
            "layers.0.exponent",
            "layers.0.input",
            "layers.0.numerator",
            "layers.1.sums",
        ],
    }.items():
        save_state(build(mixers).prefill(ids)[1], tmp_path / "state.safetensors")
        assert sorted(load_file(tmp_path / "state.safetensors")) == names


@torch.no_grad()
def test_the_narrowest_aft_conv_has_an_empty_window(tmp_path):
    mixer = AFTConv(4, taps=1)
    u = torch.randn(1, 3, 4)
    _, state = mixer.prefill(u[:, :2])
    save_state(ModelState((state,), 2), tmp_path / "state.safetensors")
    [loaded] = load_state(tmp_path / "state.safetensors").layers
    assert loaded.keys.shape == (1, 0, 4)
    assert torch.equal(mixer.step(u[:, 2], loaded)[0], mixer.step(u[:, 2], state)[0])


@torch.no_grad()
def test_version_1_loads_for_ever():
    model = hyena.load(FORMAT_1 / "model")
    expected = load_file(FORMAT_1 / "logits.safetensors")["logits"]
    found, _ = model.step(torch.tensor([1, 2]), load_state(FORMAT_1 / "state.safetensors"))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_bad_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no generation state at"):
        load_state(tmp_path / "none")
    (tmp_path / "junk").write_bytes(b"junk")
    with pytest.raises(ValueError, match="damaged"):
        load_state(tmp_path / "junk")
    save_file({"a": torch.zeros(1)}, tmp_path / "other")
    with pytest.raises(ValueError, match="holds no hyena generation state"):
        load_state(tmp_path / "other")
    save_file(
        {"a": torch.zeros(1)},
        tmp_path / "new",
        {"kind": "hyena generation state", "format_version": "7"},
    )
    with pytest.raises(ValueError, match="format version 7, but this hyena reads version 1"):
        load_state(tmp_path / "new")
    save_file(
        {"a": torch.zeros(1)},
        tmp_path / "lacking",
        {"kind": "hyena generation state", "format_version": "1", "layers": '["hyena"]'},
    )
    with pytest.raises(ValueError, match=r"damaged: 'layers\.0\.short' is missing"):
        load_state(tmp_path / "lacking")
    save_file(
        {"a": torch.zeros(1)},
        tmp_path / "later",
        {"kind": "hyena generation state", "format_version": "1", "layers": '["newest"]'},
    )
    with pytest.raises(ValueError, match="layer of the kind 'newest', which this hyena does not"):
        load_state(tmp_path / "later")
    for layers in ("7", "[[]]", "["):
        save_file(
            {"a": torch.zeros(1)},
            tmp_path / "nonsense",
            {"kind": "hyena generation state", "format_version": "1", "layers": layers},
        )
        with pytest.raises(ValueError, match="nonsense is damaged: "):
            load_state(tmp_path / "nonsense")
