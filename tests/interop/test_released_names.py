"""Round trips of every family: a file with all names of a released one becomes a model, and the
model the same file again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from released import (
    CONFIG_OF_HYENADNA,
    CONFIG_OF_PORT,
    golden,
    random_state,
    state_of_hyenadna,
    stripedhyena,
    stripedhyena2,
    with_frequencies,
)
from safetensors.torch import load_file, save_file
from torch import Tensor

import hyena
from hyena.interop import convert, pytorch_file

State = dict[str, Tensor]

STRIPED_1 = {
    "hidden_size": 32,
    "num_layers": 3,
    "num_attention_heads": 4,
    "eps": 1e-5,
    "mlp_activation": "silu",
    "rotary_emb_base": 500000,
    "max_seqlen": 64,
    "column_split_hyena": True,
    "vocab_size": 40,
}
STRIPED_2 = {
    "hidden_size": 32,
    "num_layers": 4,
    "num_attention_heads": 4,
    "eps": 1e-6,
    "mlp_activation": "gelu",
    "evo2_style_activations": True,
    "interleave": True,
    "column_split_hyena": False,
    "column_split": True,
    "rotary_emb_base": 10000,
    "use_interpolated_rotary_pos_emb": True,
    "rotary_emb_scaling_factor": 128,
    "max_seqlen": 256,
    "vocab_size": 512,
}


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


def striped(folder: Path, **changes: Any) -> State:
    """StripedHyena or Evo 1 in shards with an index."""
    state = with_frequencies(random_state(stripedhyena(**changes)), 500000.0)
    names = sorted(state)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    where = {}
    for file, some in shards.items():
        save_file({name: state[name] for name in some}, folder / file, {"format": "pt"})
        where.update(dict.fromkeys(some, file))
    index = {"metadata": {}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(STRIPED_1))
    return state


def evo1(folder: Path) -> State:
    return striped(folder, tied=True, kv_heads=4, filters=32)


def stripedhyena_7b(folder: Path) -> State:
    """Without biases in attention."""
    return striped(folder, biases=False)


def evo2(folder: Path) -> State:
    """Evo 2 in parts, with what transformer_engine leaves beside its weights."""
    state = with_frequencies(random_state(stripedhyena2()), 10000.0)
    kept = {**state, "blocks.0.projections._extra_state": b"\x00" * 99}
    torch.save(kept, folder / "evo2.pt")
    data = (folder / "evo2.pt").read_bytes()
    for i, start in enumerate(range(0, len(data), 50_000)):
        (folder / f"evo2.pt.part{i}").write_bytes(data[start : start + 50_000])
    (folder / "evo2.pt").unlink()
    (folder / "config.yml").write_text(json.dumps(STRIPED_2))
    return state


FAMILIES: dict[str, tuple[Callable[[Path], State], str]] = {
    "hyenadna": (safari, "safari"),
    "hyenadna-hf": (port, "hyenadna-hf"),
    "evo-1": (evo1, "stripedhyena"),
    "stripedhyena-7b": (stripedhyena_7b, "stripedhyena"),
    "stripedhyena, biases, grouped": (striped, "stripedhyena"),
    "evo-2": (evo2, "stripedhyena2"),
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


def test_frequencies_that_are_written_are_those_of_the_programs(tmp_path: Path) -> None:
    _, state, _ = golden("stripedhyena2_interpolated")
    name = "blocks.2.inner_mha_cls.rotary_emb.inv_freq"
    save_file(state, tmp_path / "model.safetensors")
    settings = {"rotary_scale": 16.0, "max_length": 256}
    model = convert(
        tmp_path / "model.safetensors", tmp_path / "again", to="stripedhyena2", settings=settings
    )
    assert model.config.rotary_base == 1e6
    torch.testing.assert_close(written(tmp_path / "again")[name], state[name])


def savanna(state: State) -> State:
    """Evo 2's tensors under savanna's names, with filters that give the same ones."""
    found = {}
    ours = {
        "pre_norm.scale": "input_layernorm.weight",
        "post_norm.scale": "pre_mlp_layernorm.weight",
        "mlp.l1.weight": "mlp.w1.weight",
        "mlp.l2.weight": "mlp.w2.weight",
        "mlp.l3.weight": "mlp.w3.weight",
        "projections.weight": "mixer.dense_projection.weight",
        "out_filter_dense.weight": "mixer.dense.weight",
        "out_filter_dense.bias": "mixer.dense.bias",
        "inner_mha_cls.Wqkv.weight": "mixer.dense_projection.weight",
        "inner_mha_cls.out_proj.weight": "mixer.dense.weight",
        "inner_mha_cls.out_proj.bias": "mixer.dense.bias",
        "inner_mha_cls.rotary_emb.inv_freq": "mixer.rotary_emb.inv_freq",
        "filter.short_filter_weight": "mixer.hyena_proj_conv.short_conv_weight",
        "filter.D": "mixer.mixer.conv_bias",
    }
    for name, value in state.items():
        if name == "embedding_layer.weight":
            found["sequential.0.word_embeddings.weight"] = value
        elif name == "norm.scale":
            found["sequential.7.norm.weight"] = value
        else:
            _, i, part = name.split(".", 2)
            layer = f"sequential.{int(i) + 2}."
            filter = f"{layer}mixer.mixer.filter."
            if part == "filter.h" and value.shape[-1] == 7:
                found[f"{layer}mixer.mixer.short_conv.short_conv_weight"] = value
            elif part == "filter.h":
                decay = torch.linspace(1, 0.1, 300).expand(value.shape[0], 300)
                taps = torch.cat([value[:, 0] / decay[:, :128], torch.ones(8, 172)], 1)
                found[f"{filter}h"], found[f"{filter}decay"] = taps, decay.clone()
            elif part == "filter.log_poles":
                gamma = torch.full_like(value[..., 0], 0.3)
                found[f"{filter}gamma"] = gamma
                found[f"{filter}p"] = (-value[..., 0]).log() - gamma
            elif part == "filter.residues":
                found[f"{filter}R"], found[f"{filter}t"] = value, torch.arange(9.0)[None, None]
            elif part == "filter.short_filter_weight":
                found[layer + ours[part]] = value[:, 0]
            else:
                found[layer + ours[part]] = value
    return found


@torch.no_grad()
def test_savannas_names_give_the_same_model(tmp_path: Path) -> None:
    state = with_frequencies(random_state(stripedhyena2()), 10000.0)
    settings = {"rotary_scale": 1.0, "max_length": 256}
    torch.save(state, tmp_path / "released.pt")
    torch.save({"module": savanna(state)}, tmp_path / "trained.pt")
    ids = torch.arange(200)[None]
    expected, got = (
        hyena.load(tmp_path / f"{name}.pt", dtype=torch.float64, settings=settings)(ids)
        for name in ("released", "trained")
    )
    assert torch.allclose(got, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
