"""The weights that are made of StripedHyena's files, in a plain computation in float64 that shares
nothing with our layers, give what the programs gave."""

import pytest
import torch
from comparison import relative_error
from released import golden
from torch import Tensor
from torch.nn import functional as F

from hyena.interop.loading import family_of
from hyena.model import ModelConfig

Weights = dict[str, Tensor]
ACTIVATIONS = {"gelu": F.gelu, "silu": F.silu, "identity": lambda x: x}


def opened(name: str) -> tuple[ModelConfig, Weights, dict[str, Tensor]]:
    """The config and weights of a golden file, without a model, and what the program gave."""
    arguments, state, outputs = golden(name)
    family = family_of(state, name)
    settings = family.settings(arguments)
    tensors = family.prepared(dict(state), settings)
    config = family.config(tensors, settings)
    rows = family.table(config, settings).rows
    there = [row for row in rows if row.theirs in tensors]
    found = {row.ours: row.read(tensors[row.theirs]).double() for row in there}
    return config, found, outputs


def linear(w: Weights, name: str, x: Tensor) -> Tensor:
    return F.linear(x, w[f"{name}.weight"], w.get(f"{name}.bias"))


def norm(w: Weights, name: str, x: Tensor, eps: float) -> Tensor:
    size = x.norm(dim=-1, keepdim=True) / x.shape[-1] ** 0.5
    return x / (size + eps) * w[f"{name}.weight"]


def attention(w: Weights, mixer: str, x: Tensor, config: ModelConfig) -> Tensor:
    B, L, D = x.shape
    assert config.head_dim is not None
    half = config.head_dim // 2
    q, k, v = (
        z.view(B, L, -1, config.head_dim).transpose(1, 2)
        for z in linear(w, f"{mixer}in_proj", x).chunk(3, -1)
    )
    time = torch.arange(L, dtype=torch.float64) / config.rotary_scale
    angle = time[:, None] * config.rotary_base ** (-torch.arange(half, dtype=torch.float64) / half)
    cos, sin = angle.cos(), angle.sin()

    def turned(x: Tensor) -> Tensor:
        a, b = x[..., :half], x[..., half:]
        return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)

    scores = turned(q) @ turned(k).transpose(-1, -2) / config.head_dim**0.5
    future = torch.ones(L, L, dtype=torch.bool).triu(1)
    y = scores.masked_fill(future, -torch.inf).softmax(-1) @ v
    return y.transpose(1, 2).reshape(B, L, D)


def taps(w: Weights, filter: str, length: int) -> Tensor:
    """(G, L)."""
    time = torch.arange(length, dtype=torch.float64)
    if f"{filter}weight" in w:
        h = w[f"{filter}weight"][0]
        return F.pad(h, (0, max(0, length - h.shape[-1])))[:, :length]
    if f"{filter}log_poles" in w:
        modes = (w[f"{filter}log_poles"][0, ..., None] * time).exp()
        return (w[f"{filter}residues"][0, ..., None] * modes).sum(1)
    poles, residues = (
        torch.complex(*w[f"{filter}{name}"][0].unbind(-1)) for name in ("poles", "residues")
    )
    return (residues[..., None] * poles[..., None] ** time).real.sum(1)


def convolved(u: Tensor, h: Tensor) -> Tensor:
    """u (B, D, L) with h (D, L), by a Toeplitz matrix a channel."""
    L = u.shape[-1]
    lags = torch.arange(L)[:, None] - torch.arange(L)
    matrix = torch.where(lags < 0, 0.0, h[:, lags.clamp(min=0)])
    return torch.einsum("dts,bds->bdt", matrix, u)


def hyena_layer(w: Weights, mixer: str, x: Tensor) -> Tensor:
    L, D = x.shape[1:]
    z = linear(w, f"{mixer}in_proj", x).transpose(1, 2)
    short = w[f"{mixer}short_conv.weight"]
    z = sum(short[:, j, None] * F.pad(z, (j, 0))[..., :L] for j in range(short.shape[1]))
    if f"{mixer}short_conv.bias" in w:
        z = z + w[f"{mixer}short_conv.bias"][:, None]
    x0, x1, v = z.split(D, 1)
    u, h = x1 * v, taps(w, f"{mixer}filter.taps.", L)
    y = convolved(u, h.repeat_interleave(D // h.shape[0], 0))
    if f"{mixer}filter.skip" in w:
        y = y + w[f"{mixer}filter.skip"][0][:, None] * u
    return (x0 * y).transpose(1, 2)


@pytest.mark.parametrize("name", ["stripedhyena", "stripedhyena2", "stripedhyena2_interpolated"])
def test_weights_give_what_the_program_gave(name: str) -> None:
    config, w, outputs = opened(name)
    x = w["embedding.weight"][outputs["input_ids"]]
    got = {}
    layers = zip(config.layer_mixers(), config.layer_activations(), strict=True)
    for i, (kind, activation) in enumerate(layers):
        block = f"blocks.{i}."
        mixer, u = f"{block}mixer.", norm(w, f"{block}norm1", x, config.norm_eps)
        attends = kind == "attention"
        mixed = attention(w, mixer, u, config) if attends else hyena_layer(w, mixer, u)
        x = x + linear(w, f"{mixer}out_proj", mixed)
        n = norm(w, f"{block}norm2", x, config.norm_eps)
        gate = ACTIVATIONS[activation](linear(w, f"{block}mlp.gate", n))
        x = x + linear(w, f"{block}mlp.down", gate * linear(w, f"{block}mlp.up", n))
        got[f"hidden.blocks.{i}"] = x
    got["hidden.norm"] = norm(w, "norm", x, config.norm_eps)
    got["logits"] = F.linear(got["hidden.norm"], w.get("head.weight", w["embedding.weight"]))
    for part in outputs.keys() & got.keys():
        assert relative_error(got[part], outputs[part]) < 2e-6, part
