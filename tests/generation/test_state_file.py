"""A saved state goes on exactly where it was."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode

import hyena
from hyena.generation import generate, load_state, save_state
from hyena.mixers import SPECS, AFTConv
from hyena.model import FilterConfig, LanguageModel, ModelConfig, ModelState
from hyena.ops.stepping import online

FORMAT_2 = Path(__file__).parent / "format_2"


def build(mixers: str = "hyena,attention", kind: str = "hyena") -> LanguageModel:
    config = ModelConfig(
        vocab_size=20,
        width=8,
        layers=2,
        mlp_width=8,
        head_dim=4,
        max_length=16,
        order=3,
        mixers=mixers,
        filter=FilterConfig(kind=kind, emb_dim=3, width=4, depth=2),
    )
    return LanguageModel(config, generator=torch.Generator().manual_seed(0)).eval()


def prefilled(model, **options):
    ids = torch.tensor([[0, 0, 3, 4], [5, 6, 7, 8]])
    mask = torch.tensor([[False, False, True, True], [True] * 4])
    return model.prefill(ids, mask=mask, **options)[1]


@pytest.mark.parametrize(
    "options", [{}, {"future": 3}, {"future": 9}, {"future": 2, "keep_inputs": True}]
)
@pytest.mark.parametrize("mixers", ["hyena,attention", *SPECS])
@torch.no_grad()
def test_a_saved_state_goes_on_bit_for_bit(tmp_path, mixers, options, monkeypatch):
    monkeypatch.setattr(online, "BLOCK", 2)  # so that a file has a block half past, and tiles
    model = build(mixers)
    state = prefilled(model, **options)
    token = torch.tensor([1, 2])
    for length in (5, 6, 7):
        save_state(state, tmp_path / "state.safetensors")
        loaded = load_state(tmp_path / "state.safetensors")
        with safe_open(tmp_path / "state.safetensors", framework="pt") as file:
            assert file.metadata()["format"] == "pt"  # without which accelerate refuses it
        assert [type(layer) for layer in loaded.layers] == [type(layer) for layer in state.layers]
        expected, state = model.step(token, state)
        found, after = model.step(token, loaded)
        assert torch.equal(found, expected)
        assert after.length == length


@torch.no_grad()
def test_a_state_of_recurrent_filters(tmp_path):
    model = build("hyena", kind="s4d")
    state = prefilled(model)
    save_state(state, tmp_path / "state.safetensors")
    expected, _ = model.step(torch.tensor([1, 2]), state)
    found, _ = model.step(torch.tensor([1, 2]), load_state(tmp_path / "state.safetensors"))
    assert torch.equal(found, expected)


@torch.no_grad()
def test_loaded_in_inference_mode_and_used_outside(tmp_path):
    model = build()
    state = prefilled(model, future=3)
    save_state(state, tmp_path / "state.safetensors")
    expected, _ = model.step(torch.tensor([1, 2]), state)
    with torch.inference_mode():
        loaded = load_state(tmp_path / "state.safetensors")
    assert torch.equal(model.step(torch.tensor([1, 2]), loaded)[0], expected)


@torch.no_grad()
def test_half_a_step_is_not_saved(tmp_path):
    model = build("attention,hyena")
    state = prefilled(model, future=0)
    with pytest.raises(ValueError, match="tokens that were planned for have come"):
        model.step(torch.tensor([1, 2]), state)
    with pytest.raises(ValueError, match="save_state: an error left this state in the middle of"):
        save_state(state, tmp_path / "state")
    assert not (tmp_path / "state").exists()


@torch.no_grad()
def test_what_is_no_state_of_a_model_is_not_saved(tmp_path):
    model = build()
    (result,) = generate(model, [[1]], max_new_tokens=2, return_state=True)
    with pytest.raises(TypeError, match=r"^save_state: .* got a SequenceState; save its part of"):
        save_state(result.state, tmp_path / "state")
    with pytest.raises(TypeError, match=r"^save_state: expected a ModelState, got a Generation$"):
        save_state(result, tmp_path / "state")
    with pytest.raises(TypeError, match=r"^save_state: expected layers of hyena\.mixers, got int;"):
        save_state(ModelState([3], 1), tmp_path / "state")
    assert not list(tmp_path.iterdir())


@torch.no_grad()
def test_a_failure_leaves_nothing_behind_and_an_older_file_whole(tmp_path, monkeypatch):
    state = prefilled(build())
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match=r"^save_state: .*folder cannot be written: Is a directory;"):
        save_state(state, tmp_path / "folder")
    with pytest.raises(OSError, match=r"^save_state: .*absent/x cannot be written: .*No such file"):
        save_state(state, tmp_path / "absent/x")
    save_state(state, tmp_path / "state")
    before = (tmp_path / "state").read_bytes()

    def interrupted(tensors, path, metadata):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("hyena.generation.state_file.save_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_state(state, tmp_path / "state")
    assert (tmp_path / "state").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "state"]


class Clones(TorchDispatchMode):
    """Counts the numbers that are copied by ``clone`` and ``contiguous``."""

    def __init__(self):
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten.clone.default:
            self.numbers += args[0].numel()
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", ["hyena", "s4d"])  # whose state is of another order in memory
@torch.no_grad()
def test_a_tensor_is_copied_once_at_most(tmp_path, kind):
    state = prefilled(build("hyena,attention", kind=kind), future=3)
    with Clones() as clones:
        save_state(state, tmp_path / "state")
    saved = sum(x.numel() for x in load_file(tmp_path / "state").values())
    assert 0 < clones.numbers <= saved


@torch.no_grad()
def test_the_names_in_a_file(tmp_path):
    # of version 2, so that they may not change
    ids = torch.tensor([[5, 6, 7, 8]])
    for mixers, options, names in [
        ("hyena,attention", {}, ["0.inputs", "0.line", "0.short", "1.k", "1.v"]),
        ("hyena", {"future": 3}, ["0.line", "0.short", "1.line", "1.short"]),
        (
            "rwkv,linear-attention",
            {},
            ["0.denominator", "0.exponent", "0.input", "0.numerator", "1.sums"],
        ),
    ]:
        save_state(build(mixers).prefill(ids, **options)[1], tmp_path / "state.safetensors")
        found = sorted(load_file(tmp_path / "state.safetensors"))
        assert found == [f"layers.{name}" for name in names]
    save_state(build("hyena", kind="s4d").prefill(ids)[1], tmp_path / "state.safetensors")
    assert "layers.0.x" in load_file(tmp_path / "state.safetensors")


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
def test_every_byte_of_the_tensors_and_their_numbers_counts(tmp_path):
    file = tmp_path / "state"
    save_state(prefilled(build(), future=3), file)
    whole = bytearray(file.read_bytes())
    header = 8 + int.from_bytes(whole[:8], "little")
    for place in range(header, len(whole), 61):
        changed = bytearray(whole)
        changed[place] ^= 1
        file.write_bytes(changed)
        with pytest.raises(ValueError, match="state is damaged: its SHA-256 is not the one it"):
            load_state(file)
    for old, new in ((b'length":"4', b'length":"5'), (b'position\\":', b'pos1tion\\":')):
        assert old in whole
        file.write_bytes(whole.replace(old, new))
        with pytest.raises(ValueError, match="state is damaged"):
            load_state(file)
    file.write_bytes(whole)
    load_state(file)


@torch.no_grad()
def test_a_file_without_a_digest_is_read(tmp_path):
    file = tmp_path / "state"
    save_state(prefilled(build(), future=3), file)
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
    del metadata["sha256"]
    save_file(load_file(file), file, metadata)
    model, token = build(), torch.tensor([1, 2])
    expected, _ = model.step(token, prefilled(model, future=3))
    assert torch.equal(model.step(token, load_state(file))[0], expected)


def damaged(tmp_path, tensors, **metadata):
    """A file of version 2 with something wrong."""
    file = tmp_path / "damaged"
    save_file(
        {f"layers.0.{name}": x for name, x in tensors.items()} or {"a": torch.zeros(1)},
        file,
        {
            "kind": "hyena generation state",
            "format_version": "2",
            "length": "4",
            "layers": '["hyena"]',
            "settings": '[{"length": 4, "parts": 1, "position": 0, "block": 2}]',
            **metadata,
        },
    )
    return file


@pytest.mark.parametrize(
    ("tensors", "metadata", "message"),
    [
        ({}, {}, r"damaged: 'layers\.0\.line' is missing"),
        ({"line": (1, 3, 4)}, {}, r"damaged: 'layers\.0\.short' is missing"),
        ({"line": (1, 3), "short": (1, 9, 2)}, {}, r"damaged: OnlineState: expected a line"),
        ({"line": (1, 3, 4), "short": (9, 2)}, {}, r"damaged: HyenaState: expected short"),
        ({"x": (1, 3, 4), "short": (1, 9, 2)}, {}, r"damaged: RecurrentState: expected x"),
        (
            {"line": (1, 3, 4), "short": (1, 9, 2)},
            {"settings": '[{"length": 4, "parts": 1, "position": 5, "block": 2}]'},
            "damaged: OnlineState: expected a line",
        ),
        (
            {"line": (1, 3, 4), "short": (1, 9, 2)},
            {"settings": '[{"length": 4}]'},
            r"damaged: 'layers\.0\.parts' is missing",
        ),
        ({}, {"settings": "[]"}, "damaged: "),
        ({}, {"settings": "7"}, "damaged: "),
        ({}, {"settings": "[" * 100_000}, "damaged: its metadata are nested too deeply"),
        (
            {"line": (1, 3, 4), "short": (1, 9, 2)},
            {"length": "5"},
            "damaged: layer 0 is after 4 tokens, the model 5",
        ),
        ({"k": (1, 2, 3), "v": (1, 2, 3)}, {"layers": '["attention"]'}, "damaged: AttentionState"),
        ({"v": (1, 2, 3, 4)}, {"layers": '["attention"]'}, r"damaged: 'layers\.0\.k' is missing"),
    ],
)
def test_damaged_files_are_refused(tmp_path, tensors, metadata, message):
    tensors = {name: torch.zeros(shape) for name, shape in tensors.items()}
    with pytest.raises(ValueError, match=message):
        load_state(damaged(tmp_path, tensors, **metadata))


def test_keys_and_values_of_two_dtypes_are_refused(tmp_path):
    tensors = {"k": torch.zeros(1, 2, 4, 4), "v": torch.zeros(1, 2, 4, 4).half()}
    file = damaged(tmp_path, tensors, layers='["attention"]', settings="[{}]")
    with pytest.raises(ValueError, match=r"AttentionState: k is torch\.float32 but v is torch\.f"):
        load_state(file)


@torch.no_grad()
def test_version_2_loads_for_ever():
    # five of nine planned tokens are past, in blocks of two
    model, state = hyena.load(FORMAT_2 / "model"), load_state(FORMAT_2 / "state.safetensors")
    expected = load_file(FORMAT_2 / "logits.safetensors")["logits"]
    for t in range(4):
        found, state = model.step(torch.tensor([1, 2]), state)
        torch.testing.assert_close(found, expected[:, t], rtol=1e-5, atol=1e-6)


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
    with pytest.raises(ValueError, match="format version 7, but this hyena reads version 2"):
        load_state(tmp_path / "new")
    save_file(
        {"a": torch.zeros(1)},
        tmp_path / "later",
        {
            "kind": "hyena generation state",
            "format_version": "2",
            "length": "4",
            "layers": '["newest"]',
            "settings": "[{}]",
        },
    )
    with pytest.raises(ValueError, match="layer of the kind 'newest', which this hyena does not"):
        load_state(tmp_path / "later")
    for layers in ("7", "[[]]", "["):
        save_file(
            {"a": torch.zeros(1)},
            tmp_path / "nonsense",
            {"kind": "hyena generation state", "format_version": "2", "layers": layers},
        )
        with pytest.raises(ValueError, match="nonsense is damaged: "):
            load_state(tmp_path / "nonsense")
