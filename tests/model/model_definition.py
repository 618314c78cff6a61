"""A language model written slowly: a plain function of its configuration and state dict, for one
row of ids, in float64.

It takes Hyena layers with explicit filters, and attention layers.

Sizes: L length, D width, N order, V vocabulary.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from hyena.model import ModelConfig

State = Mapping[str, Tensor]


def logits(config: ModelConfig, state: State, ids: Tensor) -> Tensor:
    """(L, V) of ids (L,)."""
    state = {name: value.detach().double() for name, value in state.items()}
    x = torch.stack([state["embedding.weight"][i] for i in ids.tolist()])
    for i, mixer in enumerate(config.layer_mixers()):
        block = part(state, f"blocks.{i}.")
        mix = attention if mixer == "attention" else hyena
        x = x + mix(config, part(block, "mixer."), norm(config, part(block, "norm1."), x))
        u = norm(config, part(block, "norm2."), x)
        names = [name.strip() for name in config.activation.split(",")]
        x = x + mlp(config, part(block, "mlp."), u, names[min(i, len(names) - 1)])
    head = state["embedding.weight" if config.tied else "head.weight"]
    return norm(config, part(state, "norm."), x) @ head[: config.vocab_size].t()


def part(state: State, prefix: str) -> State:
    """What begins so, without it."""
    return {n.removeprefix(prefix): x for n, x in state.items() if n.startswith(prefix)}


def norm(config: ModelConfig, state: State, x: Tensor) -> Tensor:
    rows = []
    for row in x:
        if config.norm == "layer":
            mean = row.sum() / len(row)
            variance = (row - mean).square().sum() / len(row)
            y = (row - mean) / (variance + config.norm_eps).sqrt()
            rows.append(state["weight"] * y + state["bias"])
        else:
            size = (row.square().sum() / len(row)).sqrt()
            rows.append(state["weight"] * row / (size + config.norm_eps))
    return torch.stack(rows)


def mlp(config: ModelConfig, state: State, u: Tensor, activation: str) -> Tensor:
    if config.mlp == "gated":
        gate = activated(activation, u @ state["gate.weight"].t())
        return (gate * (u @ state["up.weight"].t())) @ state["down.weight"].t()
    hidden = activated(activation, u @ state["up.weight"].t() + state["up.bias"])
    return hidden @ state["down.weight"].t() + state["down.bias"]


def activated(name: str, x: Tensor) -> Tensor:
    if name == "gelu":
        return x * (1 + torch.erf(x / math.sqrt(2))) / 2
    if name == "gelu-tanh":
        return x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2
    return x / (1 + torch.exp(-x)) if name == "silu" else x


def hyena(config: ModelConfig, state: State, u: Tensor) -> Tensor:
    z = u @ state["in_proj.weight"].t() + state["in_proj.bias"]
    z = convolved(z, state["short_conv.weight"]) + state["short_conv.bias"]
    *gates, v = z.split(config.width, dim=1)
    taps, skips = state["filter.taps.weight"], state["filter.skip"]
    for gate, h, skip in zip(reversed(gates[1:]), taps, skips, strict=True):
        v = convolved(gate * v, h) + skip * gate * v
    return (gates[0] * v) @ state["out_proj.weight"].t() + state["out_proj.bias"]


def convolved(u: Tensor, taps: Tensor) -> Tensor:
    """Each channel of u (L, C) with its own taps (C, K), the first at lag 0."""
    y = torch.zeros_like(u)
    for t in range(len(u)):
        for lag in range(min(t + 1, taps.shape[1])):
            y[t] += taps[:, lag] * u[t - lag]
    return y


def attention(config: ModelConfig, state: State, u: Tensor) -> Tensor:
    E, half = config.width // config.heads, config.width // config.heads // 2
    q, k, v = (u @ state["in_proj.weight"].t() + state["in_proj.bias"]).chunk(3, dim=1)
    heads = []
    for head in range(config.heads):
        own = slice(head * E, (head + 1) * E)
        turned = []
        for x in (q[:, own], k[:, own]):
            pairs = torch.complex(x[:, :half], x[:, half:])
            t = torch.arange(len(u)).double()[:, None] * (config.positions == "rotary")
            angle = t * config.rotary_base ** (-2 * torch.arange(half).double() / E)
            turned.append(pairs * torch.polar(torch.ones_like(angle), angle))
        rows = []
        for t in range(len(u)):
            scores = (turned[0][t] * turned[1][: t + 1].conj()).real.sum(1) / math.sqrt(E)
            rows.append(scores.softmax(0) @ v[: t + 1, own])
        heads.append(torch.stack(rows))
    return torch.cat(heads, dim=1) @ state["out_proj.weight"].t() + state["out_proj.bias"]
