"""A model saved in a folder comes back the same; anything else is refused in one clear line."""

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from small_models import PATTERNS, STRIPES, small_model, tokens

import hyena
from hyena.model import FilterConfig, LanguageModel, save, saved

pytestmark = pytest.mark.cpu


Patch = pytest.MonkeyPatch


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a good model."""
    small_model("hyena,attention", torch.float32).save(tmp_path / "model")
    return tmp_path / "model"


def edit_config(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes the description in place."""
    file = folder / "config.json"
    description = json.loads(file.read_text())
    change(description)
    file.write_text(json.dumps(description))
    (folder / "SHA256SUMS").unlink(missing_ok=True)  # as its message says


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Changes the tensors in place."""
    file = folder / "model.safetensors"
    weights = {name: value.clone() for name, value in load_file(file).items()}
    change(weights)
    save_file(weights, file)


def test_no_model_is_made_with_the_compiler_only_to_be_read_or_written(tmp_path: Path) -> None:
    program = """
import sys
import hyena
from hyena.mixers import SPECS
from hyena.model import FilterConfig
sizes = dict(width=64, layers=1, positions="learned")
kinds = "explicit", "fourier", "s4d", "transfer-function", "modal"
models = [hyena.ModelConfig(mixers=name, **sizes) for name in SPECS]
models += [hyena.ModelConfig(filter=FilterConfig(kind), **sizes) for kind in kinds]
for config in models:
    hyena.LanguageModel(config).save("model")
    hyena.load("model")
assert "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)


TRAINED = FilterConfig(
    emb_dim=5, width=6, train_encoding=True, train_decay=True, train_sine_freq=False
)


@pytest.mark.parametrize("mixers", PATTERNS)
@pytest.mark.parametrize("filter", [FilterConfig(), TRAINED], ids=["default", "tables"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_a_model_comes_back_as_it_was(
    mixers: str, filter: FilterConfig, dtype: torch.dtype, tmp_path: Path
) -> None:
    model, ids = small_model(mixers, dtype, filter=filter), tokens(2, 9)
    model.save(tmp_path / "new" / "folder")
    loaded = hyena.load(tmp_path / "new" / "folder")
    assert loaded.config == model.config
    assert not loaded.training
    before, after = model.state_dict(), loaded.state_dict()
    assert list(before) == list(after)
    for name, value in before.items():
        assert value.dtype == after[name].dtype
        assert torch.equal(value, after[name]), name
        assert after[name].data_ptr() % 64 == 0, name  # else products round differently
    trained = [{n for n, p in m.named_parameters() if p.requires_grad} for m in (model, loaded)]
    assert trained[0] == trained[1]
    assert torch.equal(model(ids), loaded(ids))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_striped_model_comes_back_as_it_was(dtype: torch.dtype, tmp_path: Path) -> None:
    model, ids = small_model("hyena,attention", dtype, **STRIPES), tokens(2, 9)
    model.save(tmp_path)
    loaded = hyena.load(tmp_path)
    assert loaded.config == model.config
    before, after = model.state_dict(), loaded.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert torch.equal(model(ids), loaded(ids))


def test_a_file_without_newer_options_has_their_defaults(folder: Path) -> None:
    def older(description: dict[str, Any]) -> None:
        for name in ("tied", "norm", "norm_eps", "mlp", "activation", "in_proj_bias", "striped"):
            del description["model"][name]
        del description["model"]["filter"]["groups"]

    ids, expected = tokens(1, 9), hyena.load(folder)
    edit_config(folder, older)
    assert hyena.load(folder).config == expected.config
    assert torch.equal(hyena.load(folder)(ids), expected(ids))


def test_a_loaded_model_can_be_trained_and_saved_over_itself(folder: Path) -> None:
    model = hyena.load(folder)
    with torch.no_grad():
        model.embedding.weight.add_(1)
    model.save(folder)
    assert torch.equal(hyena.load(folder).embedding.weight, model.embedding.weight)
    model.train()(tokens(1, 5)).sum().backward()


def test_the_length_policy_can_be_chosen_when_loading(folder: Path) -> None:
    assert hyena.load(folder).config.length_policy == "error"
    model = hyena.load(folder, length_policy="extrapolate")
    assert model.config.length_policy == "extrapolate"
    assert model(tokens(1, 30)).shape == (1, 30, 29)
    with pytest.raises(ValueError, match=r"model\.length_policy: expected one of error, extra"):
        hyena.load(folder, length_policy="truncate")


def test_the_same_model_gives_the_same_bytes(folder: Path) -> None:
    model, files = (
        hyena.load(folder),
        [folder / name for name in ("model.safetensors", "SHA256SUMS")],
    )
    before = [file.read_bytes() for file in files]
    for _ in range(8):
        model.save(folder)
        assert [file.read_bytes() for file in files] == before


def test_the_path_may_be_a_string(folder: Path) -> None:
    assert isinstance(hyena.load(str(folder)), LanguageModel)


def fails(folder: Path, message: str, error: type[Exception] = ValueError) -> None:
    """Loading fails with one line, in which every part of the message between … occurs."""
    with pytest.raises(error) as raised:
        hyena.load(folder)
    text = str(raised.value)
    assert "\n" not in text
    for part in message.split(" … "):
        assert part in text, text


def test_a_missing_folder(tmp_path: Path) -> None:
    fails(
        tmp_path / "absent",
        "a model was asked for in … absent, which does not exist; give the folder of a run",
        FileNotFoundError,
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [("config.json", "has no config.json"), ("model.safetensors", "is not there")],
)
def test_a_missing_file(folder: Path, name: str, message: str) -> None:
    (folder / name).unlink()
    fails(folder, message, FileNotFoundError)


def test_a_write_that_was_cut_off(folder: Path) -> None:
    for name in ("config.json", "SHA256SUMS"):
        (folder / name).rename(folder / f"{name}.tmp")
    fails(folder, "has no config.json (a write was cut off … that end in .tmp", FileNotFoundError)


def test_a_file_instead_of_a_folder(folder: Path) -> None:
    fails(folder / "model.safetensors", "is a file … give the folder", FileNotFoundError)


def test_a_run_stands_for_its_best_checkpoint_or_its_newest(folder: Path, tmp_path: Path) -> None:
    checkpoints = tmp_path / "run" / "checkpoints"
    for step, changed in ((3, 1.0), (12, 2.0)):
        model = hyena.load(folder)
        with torch.no_grad():
            model.norm.bias.fill_(changed)
        model.save(checkpoints / f"step-{step:08d}")
    assert float(hyena.load(tmp_path / "run").norm.bias[0].detach()) == 2
    (checkpoints / "best.json").write_text('{"checkpoint": "step-00000003"}')
    assert float(hyena.load(str(tmp_path / "run")).norm.bias[0].detach()) == 1
    (checkpoints / "best.json").write_text("{")
    fails(tmp_path / "run", "best.json is damaged … remove it to use the newest checkpoint")


def test_on_the_meta_device_shapes_and_dtypes_are_those_of_the_file(folder: Path) -> None:
    expected, model = hyena.load(folder).state_dict(), hyena.load(folder, device="meta")
    for name, value in model.state_dict().items():
        assert value.is_meta
        assert (value.shape, value.dtype) == (expected[name].shape, expected[name].dtype)
    model.to_empty(device="cpu").load_state_dict(expected)
    ids = tokens(1, 9)
    assert torch.equal(model(ids), hyena.load(folder)(ids))


@pytest.mark.parametrize("device", ["cuda:99", "nowhere"])
def test_a_device_that_is_not_there(folder: Path, device: str) -> None:
    with pytest.raises(ValueError, match=rf"^load: device='{device}' .* not there \(.*give devi"):
        hyena.load(folder, device=device)


def test_other_programs_are_told_that_the_weights_are_pytorchs(folder: Path) -> None:
    """The header's ``format``, without which accelerate refuses a file."""
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_weights_without_that_are_read(folder: Path) -> None:
    file = folder / "model.safetensors"
    expected = hyena.load(folder).state_dict()
    save_file(load_file(file), file, {"format_version": "1"})
    (folder / "SHA256SUMS").unlink()
    for name, value in hyena.load(folder).state_dict().items():
        assert torch.equal(value, expected[name])


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:100],
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: b"\xff" * 8 + data[8:],
        lambda data: data[:20] + b"}" + data[21:],
    ],
)
def test_damaged_weights(folder: Path, damage: Callable[[bytes], bytes]) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    fails(folder, "model.safetensors is damaged or no safetensors file … restore it from a copy")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_file_that_was_changed_is_named(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[data.rfind(b"6") if name == "config.json" else -1] ^= 1  # a digit, or a weight
    (folder / name).write_bytes(data)
    fails(folder, f"{name} is damaged: its SHA-256 is not that in SHA256SUMS; restore it … if the")
    (folder / "SHA256SUMS").unlink()
    hyena.load(folder)  # a folder without the list is read as it is


def test_a_pickle_is_not_read(folder: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    for data in (pickle.dumps(Trap()), None):
        if data is None:
            torch.save({"weight": Trap()}, folder / "model.safetensors")
        else:
            (folder / "model.safetensors").write_bytes(data)
        fails(folder, "no safetensors file … (pickle checkpoints are never read)")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("text", ["", "{", '{"kind": ', "\udcff", "[]", "3"])
def test_a_damaged_config(folder: Path, text: str) -> None:
    (folder / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    fails(folder, "config.json is damaged: … restore it from a copy")


@pytest.mark.parametrize("text", ["{}", '{"kind": "bert"}'])
def test_a_config_of_another_program(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    fails(folder, "config.json does not describe a hyena language model")


@pytest.mark.parametrize(("version", "shown"), [(2, "2"), (0, "0"), ("1", "'1'"), (None, "None")])
def test_an_unknown_format_version(folder: Path, version: Any, shown: str) -> None:
    edit_config(folder, lambda d: d.update(format_version=version))
    fails(
        folder,
        f"config.json has format version {shown}, but this hyena reads version 1; install the "
        "version of hyena that wrote it, or a newer one",
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda d: d["model"].update(wdith=3),
            "ModelConfig has no field 'wdith'",
        ),
        (
            lambda d: d["model"]["filter"].update(decay=3),
            "FilterConfig has no field 'decay'",
        ),
        (
            lambda d: d.update(model=[1]),
            "model: expected the fields of ModelConfig, got [1]",
        ),
        (lambda d: d.pop("model"), "model: expected the fields of ModelConfig, got None"),
        (
            lambda d: d["model"].update(filter=7),
            "filter: expected the fields of FilterConfig, got 7",
        ),
        (lambda d: d["model"].update(width="12"), "width: expected int, got '12'"),
        (lambda d: d["model"].update(width=12.0), "width: expected int, got 12.0"),
        (lambda d: d["model"].update(mlp_width=True), "mlp_width: expected int, got True"),
        (lambda d: d["model"].update(dropout="no"), "dropout: expected float, got 'no'"),
        (lambda d: d["model"].update(mixers=None), "mixers: expected str, got None"),
        (lambda d: d["model"]["filter"].update(window=1), "window: expected bool, got 1"),
        (lambda d: d["model"].update(layers=0), "model.layers: expected at least 1, got 0"),
    ],
)
def test_a_config_with_a_wrong_field(
    folder: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    edit_config(folder, change)
    fails(folder, message)


def test_a_field_that_is_not_given_has_its_default(folder: Path) -> None:
    # Files written before a field existed stay readable.
    edit_config(folder, lambda d: [d["model"].pop("dropout"), d["model"]["filter"].pop("shift")])
    config = hyena.load(folder).config
    assert (config.dropout, config.filter.shift) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("norm.bias"), "missing norm.bias; unknown none"),
        (lambda w: w.update(extra=torch.zeros(1)), "missing none; unknown extra"),
        (
            lambda w: [
                w.pop(f"blocks.{i}.norm{j}.{k}")
                for i in (0, 1)
                for j in (1, 2)
                for k in ("bias", "weight")
            ],
            "missing blocks.0.norm1.bias, blocks.0.norm1.weight, blocks.0.norm2.bias, "
            "blocks.0.norm2.weight, blocks.1.norm1.bias and 3 more; unknown none",
        ),
        (
            lambda w: w.update({"norm.bias": torch.zeros(13)}),
            "expected norm.bias (12,), got (13,)",
        ),
        (
            lambda w: w.update({"norm.bias": torch.zeros(12, dtype=torch.int64)}),
            "expected norm.bias of floats, got torch.int64",
        ),
    ],
)
def test_weights_that_do_not_fit_the_config(
    folder: Path, change: Callable[[dict[str, torch.Tensor]], object], message: str
) -> None:
    edit_weights(folder, change)
    fails(folder, f"model.safetensors does not fit its config: {message}")


@pytest.mark.parametrize("name", ["file", "file/folder"])
def test_a_folder_that_cannot_be_made(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    line = (
        rf"^save: the model cannot be written to \S*{name}: (it is a file|Not a directory).*choose"
    )
    with pytest.raises(OSError, match=line) as raised:
        small_model().save(tmp_path / name)
    assert "\n" not in str(raised.value)
    assert (tmp_path / "file").read_text() == "mine"


FULL = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize(
    ("owner", "name", "error", "reason"),
    [
        (Path, "write_text", OSError(28, "No space left on device"), "No space left on device"),
        (saved, "save_file", FULL, "No space left on device"),
        (saved, "save_file", PermissionError(13, "Permission denied"), "Permission denied"),
    ],
)
def test_a_failed_save_leaves_the_older_model_whole(
    owner: object, name: str, error: Exception, reason: str, folder: Path, monkeypatch: Patch
) -> None:
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    monkeypatch.setattr(owner, name, Mock(side_effect=error))
    kind = PermissionError if isinstance(error, PermissionError) else OSError
    with pytest.raises(kind) as raised:
        small_model("attention", torch.float32).save(folder)
    assert str(raised.value) == (
        f"save: the model cannot be written to {folder}: {reason}; what was there is whole. Free "
        "space or choose another folder"
    )
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


@pytest.mark.parametrize("model", [-1, None, "model", torch.nn.Linear(2, 2)])
def test_what_is_no_model_is_not_saved(tmp_path: Path, model: Any) -> None:
    with pytest.raises(TypeError, match=r"^save: expected a LanguageModel, got .*; hyena\.load"):
        save(model, tmp_path / "new")
    assert not list(tmp_path.iterdir())
