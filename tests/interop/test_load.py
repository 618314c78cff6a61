"""`hyena.load` of other programs' files: what they are, what they lack, where they lie."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from released import CONFIG_OF_HYENADNA, state_of_hyenadna
from safetensors.torch import save_file

import hyena
from hyena.interop import Settings, weights
from hyena.interop.settings import configuration_of

KNOWN = {"window": True, "normalized": False, "shift": 0.05, "vocab_size": 12}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """HyenaDNA's weights alone."""
    save_file(state_of_hyenadna(), tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


def edit(file: Path, **changes: Any) -> None:
    """Names with two underscores for a dot, of tensors that are replaced, or taken out."""
    state = state_of_hyenadna()
    for name, value in changes.items():
        state.pop(name.replace("__", "."), None)
        if value is not None:
            state[name.replace("__", ".")] = value
    save_file(state, file)


def test_all_settings_that_lack_are_asked_for_at_once(file: Path) -> None:
    with pytest.raises(ValueError, match=r"do not say window \(.*; normalized \(") as error:
        hyena.load(file)
    assert 'settings={"window": …, "normalized": …}' in str(error.value)
    with pytest.raises(ValueError, match=r"do not say shift \("):
        hyena.load(file, settings={"window": True, "normalized": False})


def test_a_configuration_beside_the_weights_says_them(file: Path) -> None:
    (file.parent / "config.json").write_text(json.dumps(CONFIG_OF_HYENADNA))
    config = hyena.load(file).config
    assert config == hyena.load(file, settings=KNOWN).config
    assert (config.filter.window, config.filter.shift, config.vocab_size) == (True, 0.05, 12)


def test_settings_by_hand_win_over_the_configuration(file: Path) -> None:
    (file.parent / "config.json").write_text(json.dumps(CONFIG_OF_HYENADNA))
    config = hyena.load(file, settings=Settings(shift=0.0, vocab_size=16)).config
    assert (config.filter.shift, config.vocab_size, config.padded_vocab) == (0.0, 16, 16)


@pytest.mark.parametrize("name", ["config.yml", "weights.yaml", "elsewhere/any.yml"])
def test_a_configuration_in_yaml(name: str, file: Path) -> None:
    text = "# of a run\nmodel:\n  vocab_size: 12\n  layer: {_name_: hyena, modulate: false}\n"
    path = file.parent / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    given = path if name.startswith("elsewhere") else None
    assert not hyena.load(file, configuration=given).config.filter.window


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: &x [1]\nb: *x", "aliases"),
        ("[1, 2", "no configuration"),
        ("3", "no names"),
        ("!!python/object:os.system {}", "no configuration"),
        ("a: " + "x" * (1 << 18), "256 KiB"),
    ],
)
def test_a_configuration_that_is_none(text: str, reason: str, file: Path) -> None:
    (file.parent / "config.yml").write_text(text)
    with pytest.raises(ValueError, match=reason) as error:
        hyena.load(file)
    assert "config.yml" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_configuration_that_is_not_there(file: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no configuration at"):
        hyena.load(file, configuration=file.parent / "none.yml")


def test_our_own_configuration_says_nothing_of_others(file: Path) -> None:
    (file.parent / "config.json").write_text('{"kind": "hyena language model", "layer": {}}')
    assert configuration_of(file, None) == {}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"windwo": True}, "'windwo' is unknown; expected some of window, shift"),
        ({"window": "yes"}, "window: expected bool, got 'yes'"),
        ({"vocab_size": 17, **{"window": False, "normalized": False}}, "vocab_size=17, but the em"),
        (3, 'expected {"NAME": value}, got 3'),
    ],
)
def test_settings_that_cannot_be(settings: Any, message: str, file: Path) -> None:
    with pytest.raises(ValueError, match=message):
        hyena.load(file, settings=settings)


def test_settings_of_one_of_our_models_are_refused(file: Path) -> None:
    hyena.load(file, settings=KNOWN).save(file.parent / "ours")
    with pytest.raises(ValueError, match="are of other programs' files"):
        hyena.load(file.parent / "ours", settings=KNOWN)


def test_all_that_does_not_fit_is_listed_at_once(file: Path) -> None:
    edit(
        file,
        backbone__ln_f__bias=None,
        backbone__layers__1__mlp__fc2__bias=None,
        backbone__mystery=torch.zeros(2),
        backbone__layers__0__norm1__weight=torch.zeros(3),
        backbone__layers__1__norm2__bias=torch.zeros(16, dtype=torch.int64),
    )
    with pytest.raises(ValueError, match="does not fit") as error:
        hyena.load(file, settings=KNOWN)
    for part in (
        "missing backbone.layers.1.mlp.fc2.bias, backbone.ln_f.bias",
        "unknown backbone.mystery",
        "backbone.layers.0.norm1.weight, (3,) of torch.float32",
        "backbone.layers.1.norm2.bias, (16,) of torch.int64",
    ):
        assert part in str(error.value)


def test_an_encoding_that_the_file_lacks_is_computed(file: Path) -> None:
    names = {n for n in state_of_hyenadna() if "pos_emb" in n}
    edit(file, **{name.replace(".", "__"): None for name in names})
    with pytest.raises(ValueError, match="do not say max_length"):
        hyena.load(file, settings=KNOWN)
    model = hyena.load(file, settings={**KNOWN, "max_length": 66})
    assert not model.config.filter.train_encoding
    assert model.config.max_length == 66


def test_times_that_the_file_lacks_are_computed(file: Path) -> None:
    expected = hyena.load(file, settings=KNOWN).state_dict()
    times = [n for n in state_of_hyenadna() if n.endswith("pos_emb.t")]
    edit(file, **{name.replace(".", "__"): None for name in times})
    for name, value in hyena.load(file, settings=KNOWN).state_dict().items():
        torch.testing.assert_close(value, expected[name])


def test_names_of_checkpointed_layers(tmp_path: Path) -> None:
    state = {
        f"model.{n.replace('.mixer.', '.mixer.layer.').replace('.mlp.', '.mlp.layer.')}": x
        for n, x in state_of_hyenadna().items()
    }
    torch.save({"state_dict": state}, tmp_path / "weights.ckpt")
    assert hyena.load(tmp_path / "weights.ckpt", settings=KNOWN).config.layers == 2


def test_two_tensors_of_one_name_are_refused(tmp_path: Path) -> None:
    state = state_of_hyenadna()
    state["module.backbone.ln_f.bias"] = state["backbone.ln_f.bias"].clone()
    save_file(state, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match=r"two tensors that are backbone\.ln_f\.bias"):
        hyena.load(tmp_path / "weights.safetensors", settings=KNOWN)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_dtype_is_loaded_and_filters_keep_theirs(dtype: torch.dtype, file: Path) -> None:
    model = hyena.load(file, settings=KNOWN, dtype=dtype)
    narrow = {n for n, x in model.state_dict().items() if x.dtype is dtype}
    wide = set(model.state_dict()) - narrow
    assert all(".filter." in name and not name.endswith("skip") for name in wide)
    assert bool(wide) is (dtype.itemsize < 4)
    with torch.no_grad():
        exact = hyena.load(file, settings=KNOWN, dtype=torch.float64)(torch.arange(12)[None])
        got = model(torch.arange(12)[None]).double()
    assert float((got - exact).norm() / exact.norm()) < 0.05
    model.save(file.parent / "ours")
    again = hyena.load(file.parent / "ours")
    assert {n: x.dtype for n, x in again.state_dict().items()} == {
        n: x.dtype for n, x in model.state_dict().items()
    }


def test_a_dtype_of_our_own_model(file: Path) -> None:
    hyena.load(file, settings=KNOWN).save(file.parent / "ours")
    model = hyena.load(file.parent / "ours", dtype=torch.bfloat16)
    wide = {n for n, x in model.state_dict().items() if x.dtype is torch.float32}
    assert wide == {n for n in model.state_dict() if ".filter." in n and not n.endswith("skip")}
    with pytest.raises(ValueError, match="load: expected a dtype"):
        hyena.load(file, settings=KNOWN, dtype="bfloat16")  # type: ignore[arg-type]


def test_on_meta_there_are_shapes_alone(file: Path) -> None:
    model = hyena.load(file, settings=KNOWN, device="meta")
    assert all(x.is_meta for x in model.state_dict().values())


def test_a_length_policy(file: Path) -> None:
    settings = {**KNOWN, "positions": "file"}
    policy = "interpolate"
    model = hyena.load(file, settings=settings, length_policy=policy)
    assert model.config.length_policy == policy


def test_weights_that_lie_as_they_are_used_are_mapped(tmp_path: Path) -> None:
    torch.save(state_of_hyenadna(), tmp_path / "weights.pt")
    model = hyena.load(tmp_path / "weights.pt", settings=KNOWN)
    with (tmp_path / "weights.pt").open("r+b") as file:  # no copy of it was made
        size = file.seek(0, 2)
        file.seek(0)
        file.write(b"\0" * size)
    assert not model.blocks[0].mlp.up.weight.any()
    assert model.blocks[0].mixer.short_conv.weight.any()  # which was turned round


def test_parts_by_any_of_their_names(tmp_path: Path) -> None:
    torch.save(state_of_hyenadna(), tmp_path / "x.pt")
    data = (tmp_path / "x.pt").read_bytes()
    (tmp_path / "x.pt").unlink()
    for i in range(12):
        size = len(data) // 12 + 1
        (tmp_path / f"x.pt.part{i}").write_bytes(data[i * size : (i + 1) * size])
    for name in ("x.pt", "x.pt.part0", "x.pt.part7", "."):
        assert hyena.load(tmp_path / name, settings=KNOWN).config.layers == 2
    (tmp_path / "x.pt.part3").unlink()
    with pytest.raises(ValueError, match=r"lies in parts, of which \.part3 is not there"):
        hyena.load(tmp_path / "x.pt", settings=KNOWN)


def index(folder: Path, where: Any) -> Path:
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": where}))
    return path


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"a": "../weights.safetensors"}, "which is no file beside it"),
        ({"a": "/etc/passwd"}, "which is no file beside it"),
        ({"a": 3}, "expected a weight_map of names and files"),
        ([1], "expected a weight_map of names and files"),
        ({}, "which is no file beside it"),
    ],
)
def test_an_index_that_cannot_be(where: Any, message: str, file: Path) -> None:
    with pytest.raises(ValueError, match=message):
        hyena.load(index(file.parent, where), settings=KNOWN)


def test_a_shard_that_lacks_and_one_that_repeats(file: Path) -> None:
    path = index(file.parent, {"a": "weights.safetensors", "b": "other.safetensors"})
    with pytest.raises(FileNotFoundError, match=r"other.safetensors, which is not there"):
        hyena.load(path, settings=KNOWN)
    shutil.copy(file, file.parent / "other.safetensors")
    with pytest.raises(ValueError, match="which another file of"):
        hyena.load(path, settings=KNOWN)


def test_a_folder_of_several_models_is_not_guessed_at(file: Path) -> None:
    shutil.copy(file, file.parent / "other.safetensors")
    with pytest.raises(ValueError, match=r"has several files of weights: other.safetensors, weigh"):
        hyena.load(file.parent, settings=KNOWN)


def test_what_is_no_known_model_is_said_to_be_none(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=r"no model that is known \(a safari language.*: a$"):
        hyena.load(tmp_path / "x.safetensors")


def test_what_is_ours_and_what_is_not(file: Path) -> None:
    folder = file.parent
    model = hyena.load(file, settings=KNOWN)
    model.save(folder / "ours")
    assert weights.is_foreign(file)
    assert weights.is_foreign(folder)
    for path in ("ours", "ours/model.safetensors", "none", "none.pt"):
        assert not weights.is_foreign(folder / path), path
    (folder / "ours/config.json").unlink()
    assert not weights.is_foreign(folder / "ours")  # one of ours that is damaged
