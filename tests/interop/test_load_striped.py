"""`hyena.load` of StripedHyena's files: what they say, what they do not, what is announced."""

import json
from pathlib import Path

import pytest
import torch
from released import golden
from safetensors.torch import save_file

import hyena
from hyena.interop.striped import base_of


def test_heads_and_base_are_the_files_and_a_configuration_that_differs_is_named(
    tmp_path: Path,
) -> None:
    arguments, state, _ = golden("stripedhyena2")
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({**arguments, "rotary_emb_base": 1e11}))
    with pytest.warns(UserWarning, match=r"says rotary_emb_base 1e\+11, but .* made with 10000"):
        model = hyena.load(tmp_path)
    assert (model.config.rotary_base, model.config.head_dim) == (10000.0, 8)


def test_weights_trained_for_8_bits_are_announced(tmp_path: Path) -> None:
    arguments, state, _ = golden("stripedhyena2")
    save_file(state, tmp_path / "model.safetensors")
    text = json.dumps({**arguments, "use_fp8_input_projections": True})
    (tmp_path / "config.json").write_text(text)
    with pytest.warns(UserWarning, match="were trained with projections in numbers of 8 bits"):
        hyena.load(tmp_path)


@pytest.mark.parametrize("name", ["hyena_flip_x1x2", "column_split", "final_norm"])
def test_what_no_released_model_has_is_refused(name: str, tmp_path: Path) -> None:
    arguments, state, _ = golden("stripedhyena2")
    save_file(state, tmp_path / "model.safetensors")
    text = json.dumps({**arguments, name: name == "hyena_flip_x1x2"})
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=f"the configuration says {name}"):
        hyena.load(tmp_path)


@pytest.mark.parametrize("name", ["stripedhyena", "stripedhyena2"])
def test_what_striped_weights_do_not_say_is_asked_for(name: str, tmp_path: Path) -> None:
    _, state, _ = golden(name)
    save_file(state, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="do not say") as error:
        hyena.load(tmp_path / "x.safetensors")
    asked = {
        "stripedhyena": ["norm_eps", "activation", "max_length", "projections"],
        "stripedhyena2": ["max_length", "rotary_scale"],
    }
    for setting in asked[name]:
        assert f"{setting} (" in str(error.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("base", [10000.0, 1e6, 500000.0, 1e11])
@pytest.mark.parametrize("half", [2, 4, 8, 64])
def test_the_base_of_rotary_frequencies(half: int, base: float, dtype: torch.dtype) -> None:
    frequencies = base ** (-torch.arange(half, dtype=torch.float64) / half)
    assert base_of(frequencies.to(dtype)) == base


def test_a_base_that_is_not_round_is_found_as_nearly_as_the_frequencies_say() -> None:
    frequencies = (12345.678 ** (-torch.arange(8, dtype=torch.float64) / 8)).float()
    assert base_of(frequencies) == pytest.approx(12345.678, rel=1e-5)
    assert base_of(torch.ones(1)) is None
