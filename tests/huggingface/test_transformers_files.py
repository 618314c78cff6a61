"""Folders of transformers: written, read again, read by `hyena.load`, and made of our models."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from small_transformers import SIZES, language_model, small, tokens
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

import hyena
from hyena.huggingface import HyenaConfig, HyenaForCausalLM, HyenaModel

KINDS: list[dict[str, Any]] = [
    {},
    {"tied": False, "vocab_multiple": 1},
    {"mixers": "hyena,attention", "norm": "rms", "mlp": "gated", "kv_heads": 1},
    {"mixers": "hyena-se,hyena-mr,hyena-li", "layers": 3},
    {"mixers": "rwkv", "dtype": torch.float64},
    {"filter": hyena.FilterConfig(kind="s4d", state=4)},
    {"dtype": torch.bfloat16},
]


def same(one: torch.nn.Module, other: torch.nn.Module) -> None:
    """Both have the same tensors, of the same dtypes."""
    mine, theirs = one.state_dict(), other.state_dict()
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        assert torch.equal(theirs[name], value), name
        assert theirs[name].dtype == value.dtype, name


@torch.no_grad()
@pytest.mark.parametrize("changes", KINDS, ids=str)
def test_a_model_comes_back_as_it_was(changes: dict[str, Any], tmp_path: Path) -> None:
    model, ids = small(**changes), tokens(2, 9)
    if changes.get("dtype") == torch.bfloat16:  # what filters are computed from stays as it was
        model.model = hyena.interop.loading.in_dtype(small().model, torch.bfloat16)
    model.save_pretrained(tmp_path)
    for again, info in (
        HyenaForCausalLM.from_pretrained(tmp_path, output_loading_info=True),
        AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True),
    ):
        assert type(again) is HyenaForCausalLM
        assert not any(info.values())
        assert not again.training
        same(model, again)
        assert torch.equal(again(ids).logits, model(ids).logits)
    ours = hyena.load(tmp_path)
    same(model.model, ours)
    assert ours.config == model.model.config
    assert torch.equal(ours(ids), model(ids).logits)


@torch.no_grad()
def test_files_are_what_other_programs_read(model: HyenaForCausalLM, folder: Path) -> None:
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        assert file.metadata()["format"] == "pt"
        assert set(file.keys()) == {f"model.{name}" for name in model.model.state_dict()}
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == "hyena"
    assert config["architectures"] == ["HyenaForCausalLM"]
    for name, value in (("hidden_size", 12), ("num_hidden_layers", 2), ("vocab_size", 29)):
        assert config[name] == value
    assert (config["max_position_embeddings"], config["tie_word_embeddings"]) == (48, True)
    assert config["dtype"] == "float32"
    read = AutoConfig.from_pretrained(folder)
    assert type(read) is HyenaConfig
    assert (read.width, read.layers, read.tied) == (12, 2, True)
    assert read.model_config() == model.model.config


@torch.no_grad()
def test_shards_are_read_by_both(model: HyenaForCausalLM, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path, max_shard_size=4000)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    same(model, HyenaForCausalLM.from_pretrained(tmp_path))
    same(model.model, hyena.load(tmp_path))


@torch.no_grad()
def test_a_dtype_is_taken_but_filters_stay_wide(folder: Path) -> None:
    again = HyenaForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    same(again.model, hyena.load(folder, dtype=torch.bfloat16))
    assert again.dtype == torch.bfloat16
    assert again.model.blocks[0].mixer.filter.layers[0].weight.dtype == torch.float32
    logits = again(tokens(1, 9)).logits
    assert logits.dtype == torch.bfloat16
    built = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), dtype="bfloat16")
    assert {n: x.dtype for n, x in built.state_dict().items()} == {
        n: x.dtype for n, x in again.state_dict().items()
    }


@torch.no_grad()
@pytest.mark.parametrize("device_map", ["auto", "cpu", {"": "cpu"}], ids=str)
def test_a_device_map_of_the_cpu(folder: Path, model: HyenaForCausalLM, device_map: Any) -> None:
    again = AutoModelForCausalLM.from_pretrained(folder, device_map=device_map)
    assert again.device == torch.device("cpu")
    ids = tokens(1, 9)
    assert torch.equal(again.generate(ids, max_new_tokens=4), model.generate(ids, max_new_tokens=4))


def test_parts_on_the_disk_are_refused(folder: Path, tmp_path: Path) -> None:
    parts = {"model.embedding": "cpu", "model.norm": "cpu", "model.blocks.0": "cpu"}
    again = HyenaForCausalLM.from_pretrained(
        folder, device_map={**parts, "model.blocks.1": "disk"}, offload_folder=tmp_path
    )
    with pytest.raises(ValueError, match="on one device, got parts on cpu, disk; load it with"):
        again(tokens(1, 9))


def test_a_model_on_meta_has_shapes_alone(folder: Path) -> None:
    config = AutoConfig.from_pretrained(folder)
    with torch.device("meta"):
        model = HyenaForCausalLM(config)
    assert all(x.is_meta for x in (*model.parameters(), *model.buffers()))
    assert model(tokens(2, 9).to("meta")).logits.shape == (2, 9, 29)
    loaded = HyenaForCausalLM.from_pretrained(folder)
    assert {n: x.shape for n, x in loaded.state_dict().items()} == {
        n: x.shape for n, x in model.state_dict().items()
    }


@torch.no_grad()
def test_what_a_file_lacks_is_as_in_a_new_model(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    new = HyenaForCausalLM(HyenaConfig.from_pretrained(folder))
    whole = HyenaForCausalLM.from_pretrained(folder)
    lacking = ["model.blocks.0.mixer.filter.decay", "model.blocks.1.mixer.filter.sine_freq"]
    drawn = "model.blocks.1.mlp.down.weight"
    kept = {n: x for n, x in whole.state_dict().items() if n not in (*lacking, drawn)}
    whole.save_pretrained(tmp_path, state_dict=kept)
    torch.manual_seed(3)
    again, info = HyenaForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert info["missing_keys"] == {*lacking, drawn}
    found, fresh = again.state_dict(), new.state_dict()
    assert all(torch.equal(found[name], fresh[name]) for name in (*lacking, drawn))
    assert all(torch.equal(found[name], value) for name, value in kept.items())


@torch.no_grad()
def test_a_head_of_its_own_is_of_causal_models_alone(tmp_path: Path) -> None:
    model = small(tied=False)
    model.save_pretrained(tmp_path)
    base, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert type(base) is HyenaModel
    assert not any(info.values())
    assert base.get_output_embeddings() is None
    ids = tokens(1, 9)
    last = base(ids).last_hidden_state
    torch.testing.assert_close(
        last @ model.get_output_embeddings().weight[:29].T, model(ids).logits
    )
    with pytest.raises(ValueError, match="HyenaModel: it has no head of its own; set its input"):
        base.set_output_embeddings(None)


@torch.no_grad()
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("size", "rows"), [(31, 32), (40, 40), (41, 48), (10, 16)])
def test_another_vocabulary(size: int, rows: int, tied: bool, tmp_path: Path) -> None:
    model, ids = small(tied=tied), tokens(2, 9) % 10
    before, old = model(ids).logits, model.get_input_embeddings().weight[:29].clone()
    resized = model.resize_token_embeddings(size)
    assert resized is model.get_input_embeddings()
    assert resized.weight.shape == (rows, 12)
    after = model(ids).logits
    assert after.shape == (2, 9, size)
    kept = min(size, 29)
    torch.testing.assert_close(after[..., :kept], before[..., :kept])
    if size > 29:
        torch.testing.assert_close(resized.weight[29], old.mean(0))
        assert model(torch.full((1, 3), size - 1)).logits.isfinite().all()
    model.save_pretrained(tmp_path)
    same(model, HyenaForCausalLM.from_pretrained(tmp_path))
    assert model.resize_token_embeddings() is model.get_input_embeddings()


@torch.no_grad()
def test_a_vocabulary_padded_to_a_multiple() -> None:
    model = small()
    assert model.resize_token_embeddings(pad_to_multiple_of=64).weight.shape == (64, 12)
    assert model(tokens(1, 4)).logits.shape == (1, 4, 29)
    assert model.config.vocab_size == 29


def test_a_vocabulary_that_cannot_be_changes_nothing(tmp_path: Path) -> None:
    model = small()
    before = model.config.to_dict()
    for size, multiple in ((0, None), (31, 0)):
        with pytest.raises(ValueError, match="vocab_") as problem:
            model.resize_token_embeddings(size, pad_to_multiple_of=multiple)
        assert "\n" not in str(problem.value)
    assert model.config.to_dict() == before
    assert model.model.config.vocab_size == 29


def test_a_model_of_ours_is_taken_over_with_its_weights() -> None:
    ours = language_model()
    theirs = HyenaForCausalLM.from_language_model(ours)
    assert theirs.model is ours
    assert theirs.num_parameters() == ours.parameter_count()
    assert not theirs.training
    assert HyenaForCausalLM.from_language_model(ours.train()).training


@torch.no_grad()
def test_a_new_model_is_drawn_as_ours() -> None:
    torch.manual_seed(3)
    theirs = HyenaForCausalLM(HyenaConfig(**{**SIZES, "filter": vars(SIZES["filter"])}))
    torch.manual_seed(3)
    same(hyena.LanguageModel(hyena.ModelConfig(**SIZES)), theirs.model)


def test_what_a_configuration_cannot_be_is_one_line(folder: Path) -> None:
    for options, message in (
        ({"hidden_size": 0}, "model.width: expected at least 1, got 0"),
        ({"mixers": "mamba"}, "'mamba' is no mixer"),
        ({"filter": {"kind": "x"}}, "kind: expected"),
        ({"pool": "first"}, "HyenaConfig: expected pool last or mean, got 'first'"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            HyenaConfig(**options)
    with pytest.raises(ValueError, match="which says all of itself; leave them out"):
        hyena.load(folder, settings={"vocab_size": 29})
