"""Files of other programs that lie, lack something or cannot be written: an error, never another
model."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from released import (
    CONFIG_OF_HYENADNA,
    random_state,
    state_of_hyenadna,
    stripedhyena,
    with_frequencies,
)
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

import hyena
from hyena.interop import convert, savanna
from hyena.model import FilterConfig


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """HyenaDNA's weights under their usual name, with their configuration."""
    save_file(state_of_hyenadna(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG_OF_HYENADNA))
    return tmp_path


def test_a_layer_that_lacks_between_others_is_told() -> None:
    layers = {f"sequential.{i}.input_layernorm.weight": torch.ones(2) for i in (2, 3, 5)}
    with pytest.raises(ValueError, match="has layers 3 and 5, but none between"):
        savanna.renamed(layers)
    del layers["sequential.5.input_layernorm.weight"]
    assert sorted(savanna.renamed(layers)) == ["blocks.0.pre_norm.scale", "blocks.1.pre_norm.scale"]


def test_a_tensor_that_an_index_alone_has_is_told(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    index = folder / "model.safetensors.index.json"
    where = dict.fromkeys(state_of_hyenadna(), "model-00001-of-00001.safetensors")
    index.write_text(json.dumps({"weight_map": where}))
    assert hyena.load(folder).config.layers == 2
    where["backbone.layers.2.norm1.weight"] = where["lm_head.weight"]
    index.write_text(json.dumps({"weight_map": where}))
    with pytest.raises(
        ValueError, match=r"index\.json names backbone\.layers\.2\.norm1\.weight, which its files"
    ):
        hyena.load(folder)


def test_of_the_usual_names_the_first_is_read(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"of an older release")
    (folder / "optimizer.pt").write_bytes(b"of the training")
    assert hyena.load(folder).config.layers == 2


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_one_file_and_an_index_of_an_older_save_are_not_guessed_at(name: str, folder: Path) -> None:
    whole = folder / "model.safetensors"
    shard = folder / "model-00001-of-00001.safetensors"
    shutil.copy(whole, shard)
    index = folder / f"{name}.index.json"
    index.write_text(json.dumps({"weight_map": dict.fromkeys(state_of_hyenadna(), shard.name)}))
    if name == "pytorch_model.bin":
        torch.save(load_file(whole), folder / name)
        whole.unlink()
    with pytest.raises(
        ValueError, match=rf" has both {name} and {name}\.index\.json, of which one is of an older"
    ):
        hyena.load(folder)
    assert hyena.load(index).config.layers == 2
    assert hyena.load(folder / name).config.layers == 2
    index.unlink()
    assert hyena.load(folder).config.layers == 2


def test_what_is_no_tensor_is_named(tmp_path: Path) -> None:
    torch.save({"a.weight": torch.ones(2), "steps": 3, "args": {}}, tmp_path / "x.pt")
    with pytest.raises(
        ValueError, match=r"x\.pt holds no state dict .*: there is also args, steps"
    ):
        hyena.load(tmp_path / "x.pt")
    torch.save([torch.ones(2)], tmp_path / "x.pt")
    with pytest.raises(ValueError, match=r"x\.pt holds no state dict of tensors$"):
        hyena.load(tmp_path / "x.pt")


@pytest.mark.parametrize(
    ("to", "write", "error"),
    [
        ("hyenadna-hf", "save_file", SafetensorError("I/O error: No space left (os error 28)")),
        ("safari", "torch.save", RuntimeError("unexpected pos 768 vs 662")),
    ],
)
def test_a_full_disk_is_one_line_whoever_writes(
    to: str, write: str, error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise error

    config = hyena.ModelConfig(
        width=16, layers=1, max_length=32, vocab_size=12, filter=FilterConfig(shift=0.05)
    )
    hyena.LanguageModel(config).save(tmp_path / "ours")
    monkeypatch.setattr(f"hyena.interop.conversion.{write}", full)
    with pytest.raises(
        OSError, match=r"theirs cannot be written: .*(No space|full disk).* Free space or"
    ):
        convert(tmp_path / "ours", tmp_path / "theirs", to=to)
    assert not (tmp_path / "theirs").exists()


def test_what_metrics_leave_in_a_state_dict_is_passed_over(folder: Path) -> None:
    counts = {f"{part}_torchmetrics.num_tokens.count": torch.tensor(9) for part in ("train", "val")}
    state = {f"model.{name}": x for name, x in state_of_hyenadna().items()}
    torch.save({"state_dict": {**counts, **state}}, folder / "weights.ckpt")
    save_file({**counts, **state}, folder / "other.safetensors")
    for name in ("weights.ckpt", "other.safetensors"):
        assert hyena.load(folder / name).config.layers == 2


def test_an_untied_head_that_lacks_is_not_the_embedding(tmp_path: Path) -> None:
    state = with_frequencies(random_state(stripedhyena()), 500000.0)
    settings = {"tie_embeddings": False, "column_split_hyena": True, "mlp_activation": "silu"}
    sizes = {"hidden_size": 32, "num_attention_heads": 4, "eps": 1e-5, "max_seqlen": 64}
    (tmp_path / "config.json").write_text(json.dumps({**settings, **sizes}))
    save_file(state, tmp_path / "model.safetensors")
    assert not hyena.load(tmp_path).config.tied
    del state["unembed.weight"]
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="it says tie_embeddings False, the weights True"):
        hyena.load(tmp_path)


@pytest.mark.parametrize("part", [torch.ones(2, 3, dtype=torch.int64), torch.tensor(1.0)])
def test_parts_of_a_filter_are_matrices_of_floats(part: torch.Tensor) -> None:
    filter = "sequential.2.mixer.mixer.filter."
    with pytest.raises(ValueError, match=r"decay of layer 0's filter, .*, is no matrix of floats"):
        savanna.renamed({f"{filter}h": torch.ones(2, 3), f"{filter}decay": part})
