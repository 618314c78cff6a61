"""Language models run by the public programs: the same outputs from the same weights."""

import json
from pathlib import Path

import pytest
import torch
from comparison import relative_error
from released import golden
from safetensors.torch import save_file
from torch import Tensor

import hyena

STRIPED = ["stripedhyena", "stripedhyena2", "stripedhyena2_interpolated"]
# Where the program's numbers are float64, and where they are float32.
EXACT, ROUNDED = 1e-10, 1e-5


def loaded(name: str, folder: Path, dtype: torch.dtype) -> tuple[hyena.LanguageModel, dict]:
    """The model of a golden file, opened as a released one, and what the program gave."""
    arguments, state, outputs = golden(name)
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(arguments))
    return hyena.load(folder, dtype=dtype), outputs


def hidden(model: hyena.LanguageModel, part: str, ids: Tensor) -> Tensor:
    """What a part of the model gives."""
    found: list[Tensor] = []
    handle = model.get_submodule(part).register_forward_hook(lambda m, u, y: found.append(y))
    model(ids)
    handle.remove()
    return found[0]


@torch.no_grad()
def test_hyenadna_gives_the_programs_hidden_values(tmp_path: Path) -> None:
    model, outputs = loaded("hyenadna_lm", tmp_path, torch.float64)
    assert model.config.vocab_size == 12
    assert model.config.filter.shift == 0.05
    got = hidden(model, "norm", outputs["input_ids"])
    assert relative_error(got, outputs["logits"]) < EXACT  # the program was run without a head


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", STRIPED)
def test_striped_models_give_the_programs_logits(
    name: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    model, outputs = loaded(name, tmp_path, dtype)
    assert relative_error(model(outputs["input_ids"]), outputs["logits"]) < ROUNDED


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", STRIPED[1:])
def test_hidden_values_of_striped_models_are_the_programs(
    name: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    model, outputs = loaded(name, tmp_path, dtype)
    for part in ("blocks.2", "norm"):
        got = hidden(model, part, outputs["input_ids"])
        assert relative_error(got, outputs[f"hidden.{part}"]) < ROUNDED, part


@torch.no_grad()
@pytest.mark.parametrize("length", [1, 2, 6, 7, 40, 130])
@pytest.mark.parametrize("name", ["hyenadna_lm", *STRIPED])
def test_steps_after_a_prompt_are_the_whole_in_one(name: str, length: int, tmp_path: Path) -> None:
    model, outputs = loaded(name, tmp_path, torch.float64)
    ids = outputs["input_ids"]
    ids = ids[:, : min(ids.shape[1], 140)].clamp(max=model.config.vocab_size - 1)
    if length >= ids.shape[1]:
        pytest.skip("the program was run on fewer tokens")
    expected = model(ids)
    logits, state = model.prefill(ids[:, :length])
    got = [logits]
    for t in range(length, ids.shape[1]):
        logits, state = model.step(ids[:, t], state)
        got.append(logits[:, None])
    assert relative_error(torch.cat(got, 1), expected) < 1e-10


@torch.no_grad()
@pytest.mark.parametrize("name", ["hyenadna_lm", *STRIPED])
def test_generated_tokens_are_the_likeliest_of_the_whole(name: str, tmp_path: Path) -> None:
    model, _ = loaded(name, tmp_path, torch.float64)
    for length in (1, 3, 8):
        prompt = list(range(length))
        (result,) = model.generate([prompt], max_new_tokens=10, temperature=0)
        ids = torch.tensor([prompt + list(result.tokens)])
        assert model(ids)[0, length - 1 : -1].argmax(-1).tolist() == list(result.tokens)
