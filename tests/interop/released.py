"""Released models in small: every name that a family's files have, on random weights, written down
from the files rather than from our tables; and the golden files, made by the families' programs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

GOLDEN = Path(__file__).parent.parent / "golden"
Shapes = dict[str, tuple[int, ...]]


def golden(name: str) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]:
    """A golden file: the program's arguments, the state dict, and inputs and outputs."""
    with safe_open(GOLDEN / f"{name}.safetensors", framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        arguments = json.loads(file.metadata()["config"])["args"]
    state = {k.removeprefix("state."): x for k, x in tensors.items() if k.startswith("state.")}
    return arguments, state, {k: x for k, x in tensors.items() if not k.startswith("state.")}


def random_state(shapes: Shapes, seed: int = 0) -> dict[str, Tensor]:
    """Tensors of these names and shapes; poles within the unit circle, norms near one."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        x = 0.3 * torch.randn(shape, generator=generator)
        if name.endswith("log_poles"):
            x = -x.abs()
        state[name] = 1 + x if name.endswith(("scale", "norm.weight")) else x
    return state


def hyenadna(layers: int = 2, width: int = 16, hidden: int = 32, length: int = 66) -> Shapes:
    """HyenaDNA's state dict, as its own checkpoint has it behind the prefix ``model.``."""
    emb_dim, network = 5, 24
    shapes: Shapes = {"backbone.embeddings.word_embeddings.weight": (16, width)}
    for i in range(layers):
        layer = f"backbone.layers.{i}."
        mixer, filter = f"{layer}mixer.", f"{layer}mixer.filter_fn."
        implicit = f"{filter}implicit_filter."
        shapes |= {
            f"{mixer}out_proj.weight": (width, width),
            f"{mixer}out_proj.bias": (width,),
            f"{mixer}in_proj.weight": (3 * width, width),
            f"{mixer}in_proj.bias": (3 * width,),
            f"{mixer}short_filter.weight": (3 * width, 1, 3),
            f"{mixer}short_filter.bias": (3 * width,),
            f"{filter}bias": (width,),
            f"{filter}pos_emb.z": (1, length, emb_dim),
            f"{filter}pos_emb.t": (1, length, 1),
            f"{implicit}0.weight": (network, emb_dim),
            f"{implicit}0.bias": (network,),
            f"{implicit}1.freq": (1, network),
            f"{implicit}2.weight": (network, network),
            f"{implicit}2.bias": (network,),
            f"{implicit}3.freq": (1, network),
            f"{implicit}4.weight": (network, network),
            f"{implicit}4.bias": (network,),
            f"{implicit}5.freq": (1, network),
            f"{implicit}6.weight": (width, network),
            f"{filter}modulation.deltas": (1, 1, width),
            f"{layer}mlp.fc1.weight": (hidden, width),
            f"{layer}mlp.fc1.bias": (hidden,),
            f"{layer}mlp.fc2.weight": (width, hidden),
            f"{layer}mlp.fc2.bias": (width,),
        }
        for norm in ("norm1", "norm2"):
            shapes |= {f"{layer}{norm}.weight": (width,), f"{layer}{norm}.bias": (width,)}
    return {
        **shapes,
        "backbone.ln_f.weight": (width,),
        "backbone.ln_f.bias": (width,),
        "lm_head.weight": (16, width),
    }


def state_of_hyenadna(**sizes: int) -> dict[str, Tensor]:
    """With what its files have twice equal, and decays negative."""
    state = random_state(hyenadna(**sizes))
    state["lm_head.weight"] = state["backbone.embeddings.word_embeddings.weight"].clone()
    for name in state:
        if name.endswith(("3.freq", "5.freq")):
            state[name] = state[f"{name[: -len('3.freq')]}1.freq"].clone()
        if name.endswith("deltas"):
            state[name] = -state[name].abs()
        if name.endswith("pos_emb.t"):
            state[name] = torch.linspace(0, 1, state[name].shape[1]).view(1, -1, 1)
    return state


CONFIG_OF_HYENADNA = {
    "d_model": 16,
    "n_layer": 2,
    "d_inner": 32,
    "vocab_size": 12,
    "resid_dropout": 0.0,
    "layer": {
        "_name_": "hyena",
        "emb_dim": 5,
        "filter_order": 24,
        "l_max": 66,
        "modulate": True,
        "w": 10,
    },
    "pad_vocab_size_multiple": 8,
}
CONFIG_OF_PORT = {
    "model_type": "hyenadna",
    "d_model": 16,
    "d_inner": 32,
    "n_layer": 2,
    "emb_dim": 5,
    "filter_order": 24,
    "max_seq_len": 66,
    "activation_freq": 10,
    "train_freq": True,
    "num_inner_mlps": 2,
    "hyena_order": 2,
    "short_filter_order": 3,
    "vocab_size": 12,
    "pad_vocab_size_multiple": 8,
    "pad_token_id": 4,
    "layer_norm_epsilon": 1e-5,
}


def striped_block(i: int, width: int, hidden: int) -> Shapes:
    """What all blocks of StripedHyena and StripedHyena 2 have."""
    return {
        f"blocks.{i}.pre_norm.scale": (width,),
        f"blocks.{i}.post_norm.scale": (width,),
        f"blocks.{i}.mlp.l1.weight": (hidden, width),
        f"blocks.{i}.mlp.l2.weight": (hidden, width),
        f"blocks.{i}.mlp.l3.weight": (width, hidden),
    }


def stripedhyena(
    width: int = 32,
    hidden: int = 48,
    heads: int = 4,
    kv_heads: int = 2,
    filters: int = 16,
    biases: bool = True,
    tied: bool = False,
) -> Shapes:
    """Two Hyena blocks with a block of grouped attention between."""
    shapes: Shapes = {"embedding_layer.weight": (40, width), "norm.scale": (width,)}
    if not tied:
        shapes["unembed.weight"] = (40, width)
    for i in range(3):
        shapes |= striped_block(i, width, hidden)
        block = f"blocks.{i}."
        if i == 1:
            head_dim = width // heads
            rows = width + 2 * kv_heads * head_dim
            attention = f"{block}inner_mha_cls."
            shapes |= {
                f"{attention}Wqkv.weight": (rows, width),
                f"{attention}out_proj.weight": (width, width),
                f"{attention}rotary_emb.inv_freq": (head_dim // 2,),
            }
            if biases:
                shapes[f"{attention}Wqkv.bias"] = (rows,)
                shapes[f"{attention}out_proj.bias"] = (width,)
            continue
        shapes |= {
            f"{block}filter.D": (width,),
            f"{block}filter.short_filter_weight": (3 * width, 1, 3),
            f"{block}filter.short_filter_bias": (3 * width,),
            f"{block}filter.poles": (filters, 3, 1, 2),
            f"{block}filter.residues": (filters, 3, 1, 2),
            f"{block}projections.weight": (3 * width, width),
            f"{block}projections.bias": (3 * width,),
            f"{block}out_filter_dense.weight": (width, width),
            f"{block}out_filter_dense.bias": (width,),
        }
    return shapes


def stripedhyena2(
    layout: str = "SDH*", width: int = 32, hidden: int = 48, heads: int = 4, groups: int = 8
) -> Shapes:
    """S, D, H and * as the released files have them."""
    shapes: Shapes = {"embedding_layer.weight": (512, width), "norm.scale": (width,)}
    for i, symbol in enumerate(layout):
        shapes |= striped_block(i, width, hidden)
        block = f"blocks.{i}."
        if symbol == "*":
            attention = f"{block}inner_mha_cls."
            shapes |= {
                f"{attention}Wqkv.weight": (3 * width, width),
                f"{attention}out_proj.weight": (width, width),
                f"{attention}out_proj.bias": (width,),
                f"{attention}rotary_emb.inv_freq": (width // heads // 2,),
            }
            continue
        shapes |= {
            f"{block}projections.weight": (3 * width, width),
            f"{block}out_filter_dense.weight": (width, width),
            f"{block}out_filter_dense.bias": (width,),
            f"{block}filter.short_filter_weight": (3 * width, 1, 3),
        }
        if symbol == "H":
            shapes[f"{block}filter.log_poles"] = (width, 16, 1)
            shapes[f"{block}filter.residues"] = (width, 16)
        else:
            shapes[f"{block}filter.h"] = (groups, 1, 7 if symbol == "S" else 128)
        if symbol != "S":
            shapes[f"{block}filter.D"] = (width,)
    return shapes


def with_frequencies(state: dict[str, Tensor], base: float) -> dict[str, Tensor]:
    """The state with the rotary frequencies of a base."""
    for name in state:
        if name.endswith("inv_freq"):
            half = state[name].numel()
            state[name] = base ** (-torch.arange(half) / half)
    return state
