"""Round trips of every family: a file with all names of a released one becomes a model, and the
model the same file again."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from released import (
    CONFIG_OF_HYENADNA,
    CONFIG_OF_PORT,
    state_of_hyenadna,
)
from safetensors.torch import load_file, save_file
from torch import Tensor

import hyena
from hyena.interop import convert, pytorch_file

State = dict[str, Tensor]


def safari(folder: Path) -> State:
    """HyenaDNA's own checkpoint: Lightning's dict around the state dict."""
    state = state_of_hyenadna()
    kept = {"state_dict": {f"model.{name}": x for name, x in state.items()}, "epoch": 3}
    torch.save(kept, folder / "weights.ckpt")
    (folder / "config.json").write_text(json.dumps(CONFIG_OF_HYENADNA))
    return state


def port(folder: Path) -> State:
    """HyenaDNA's Hugging Face port: another prefix, the sine frequency under its first name."""
    state = {
        f"hyena.{name}" if name.startswith("backbone.") else name: x
        for name, x in state_of_hyenadna().items()
        if not name.endswith(("3.freq", "5.freq"))
    }
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(CONFIG_OF_PORT))
    return state


FAMILIES: dict[str, tuple[Callable[[Path], State], str]] = {
    "hyenadna": (safari, "safari"),
    "hyenadna-hf": (port, "hyenadna-hf"),
}


def written(folder: Path) -> State:
    """The tensors that were written."""
    (file,) = [path for path in folder.iterdir() if path.suffix not in (".json", ".yml")]
    if file.suffix == ".safetensors":
        return load_file(file)
    found: State = pytorch_file.read([file])
    return found


@pytest.mark.parametrize("name", FAMILIES)
def test_a_model_is_written_as_it_was_released(name: str, tmp_path: Path) -> None:
    make, to = FAMILIES[name]
    expected = make(tmp_path)
    convert(tmp_path, tmp_path / "again", to=to)
    got = written(tmp_path / "again")
    assert got.keys() == expected.keys()
    for each, value in expected.items():
        torch.testing.assert_close(got[each], value, rtol=1e-5, atol=0, msg=each)


@torch.no_grad()
@pytest.mark.parametrize("name", FAMILIES)
def test_what_was_written_opens_without_help_and_is_the_same_model(
    name: str, tmp_path: Path
) -> None:
    make, to = FAMILIES[name]
    make(tmp_path)
    model = hyena.load(tmp_path)
    convert(tmp_path, tmp_path / "again", to=to)
    convert(tmp_path, tmp_path / "ours")
    ids = torch.arange(20)[None] % model.config.vocab_size
    for folder in ("again", "ours"):
        other = hyena.load(tmp_path / folder)
        assert torch.equal(other(ids), model(ids)), folder
    assert hyena.load(tmp_path / "ours").config == model.config
