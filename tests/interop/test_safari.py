"""Language models of the public code: the same logits, and nothing guessed."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

import hyena
from hyena.interop.safari import load_safari

GOLDEN = Path(__file__).parent.parent / "golden"


@pytest.fixture(params=["safari_lm_modulated", "safari_lm_unmodulated"])
def golden(request, tmp_path):
    with safe_open(GOLDEN / f"{request.param}.safetensors", framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        args = json.loads(file.metadata()["config"])["args"]
    state = {k.removeprefix("state."): v for k, v in tensors.items() if k.startswith("state.")}
    settings = {"window": args["layer"]["modulate"], "normalized": False, "shift": 0.0}
    return state, settings, tensors["input_ids"], tensors["logits"], tmp_path


def write(state: dict[str, Tensor], path: Path) -> Path:
    save_file({k: v.clone() for k, v in state.items()}, path / "weights.safetensors")
    return path / "weights.safetensors"


def relative(actual: Tensor, expected: Tensor) -> float:
    return ((actual - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize(("positions", "bound"), [("file", 1e-10), ("computed", 1e-5)])
def test_logits_are_the_public_codes(golden, positions, bound):
    state, settings, ids, logits, path = golden
    model = load_safari(write(state, path), positions=positions, dtype=torch.float64, **settings)
    with torch.no_grad():
        assert relative(model(ids), logits) < bound


def test_window_settings_matter(golden):
    state, settings, ids, logits, path = golden
    wrong = {**settings, "window": not settings["window"]}
    model = load_safari(write(state, path), dtype=torch.float64, **wrong)
    with torch.no_grad():
        assert relative(model(ids), logits) > 1e-3


def test_prefixes_and_pytorch_files_are_read(golden):
    state, settings, ids, logits, path = golden
    file = path / "weights.ckpt"
    torch.save({"state_dict": {f"model.{k}": v for k, v in state.items()}}, file)
    model = load_safari(file, dtype=torch.float64, vocab_size=50, **settings)
    with torch.no_grad():
        assert relative(model(ids), logits[..., :50]) < 1e-10


def test_saves_and_loads_as_ours(golden):
    state, settings, ids, _, path = golden
    model = load_safari(write(state, path), vocab_size=50, **settings)
    model.save(path / "ours")
    with torch.no_grad():
        assert torch.equal(hyena.load(path / "ours")(ids), model(ids))


def test_missing_and_unknown_names_are_all_listed(golden):
    state, settings, _, _, path = golden
    del state["backbone.layers.1.mlp.fc2.bias"], state["backbone.ln_f.weight"]
    state["backbone.layers.0.mystery"] = torch.zeros(1)
    with pytest.raises(ValueError, match="does not fit") as error:
        load_safari(write(state, path), **settings)
    for name in ("layers.1.mlp.fc2.bias", "backbone.ln_f.weight", "layers.0.mystery"):
        assert name in str(error.value)


def test_what_the_file_cannot_tell_is_asked_for(golden):
    state, _, _, _, path = golden
    file = write(state, path)
    with pytest.raises(TypeError, match=r"window.*normalized|normalized.*window"):
        load_safari(file)
    with pytest.raises(ValueError, match="window=True needs shift="):
        load_safari(file, window=True, normalized=False)


def test_a_trained_encoding_is_not_replaced_by_the_formula(golden):
    state, settings, _, _, path = golden
    state["backbone.layers.1.mixer.filter_fn.pos_emb.z"] += 0.01
    with pytest.raises(ValueError, match=r"layers\.1.*was trained"):
        load_safari(write(state, path), positions="computed", **settings)


def test_an_untied_head_is_refused(golden):
    state, settings, _, _, path = golden
    state["lm_head.weight"] = state["lm_head.weight"] + 1
    with pytest.raises(ValueError, match="untied head"):
        load_safari(write(state, path), **settings)


def test_what_a_pickle_would_run_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"state_dict": Evil()}, tmp_path / "weights.ckpt")
    with pytest.raises(ValueError, match="holds no state dict of tensors"):
        load_safari(tmp_path / "weights.ckpt", window=False, normalized=False)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"hello world" * 9, b"\x80\x02" + bytes(range(3, 99)), b"PK\x03\x04" + bytes(99)],
)
@pytest.mark.parametrize("name", ["weights.ckpt", "weights.safetensors"])
def test_junk_is_one_clear_line(content, name, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match="no checkpoint") as error:
        load_safari(tmp_path / name, window=False, normalized=False)
    assert "\n" not in str(error.value)
    assert "weights_only" not in str(error.value)  # no advice to turn the protection off


@pytest.mark.parametrize("loaded", [[1], {"a": 1}, {1: torch.zeros(1)}])
def test_a_pytorch_file_of_something_else(loaded, tmp_path):
    torch.save(loaded, tmp_path / "weights.ckpt")
    with pytest.raises(ValueError, match="holds no state dict of tensors"):
        load_safari(tmp_path / "weights.ckpt", window=False, normalized=False)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("backbone.layers.1.norm1.weight", lambda x: x[:3]),
        ("backbone.layers.0.mixer.filter_fn.bias", lambda x: x[:-1]),
        ("backbone.layers.1.mixer.filter_fn.pos_emb.z", lambda x: x[:, :-1]),
        ("backbone.layers.0.mixer.filter_fn.pos_emb.t", lambda x: x[:, :-1]),
        ("backbone.layers.1.mixer.short_filter.weight", lambda x: x.sum()),
        ("backbone.ln_f.weight", lambda x: x.long()),
    ],
)
def test_a_tensor_that_does_not_fit_the_others_is_named(name, change, golden):
    state, settings, _, _, path = golden
    state[name] = change(state[name]).contiguous()
    with pytest.raises(ValueError, match=f"^the checkpoint does not fit: {name}, ") as error:
        load_safari(write(state, path), **settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"layout": "rows"}, "expected layout order_major or channel_major, got 'rows'"),
        ({"positions": "none"}, 'expected positions "file" or "computed", got \'none\''),
        ({"vocab_size": 0}, "vocab_size=0, but the embedding has 56 rows"),
        ({"vocab_size": 57}, "vocab_size=57, but the embedding has 56 rows"),
    ],
)
def test_wrong_settings(wrong, message, golden):
    state, settings, _, _, path = golden
    with pytest.raises(ValueError, match=f"^(load_safari: )?{message}$"):
        load_safari(write(state, path), **settings, **wrong)


def test_no_file_and_no_model(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        load_safari(tmp_path / "none.safetensors", window=False, normalized=False)
    file = write({"a": torch.zeros(2)}, tmp_path)
    with pytest.raises(ValueError, match="no safari language model"):
        load_safari(file, window=False, normalized=False)
