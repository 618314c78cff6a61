"""A language model written slowly: a plain function of its configuration and state dict, for one
row of ids, in float64.

It takes Hyena layers with explicit and modal filters and those of StripedHyena 2, and attention
layers.

Sizes: L length, D width, V vocabulary, F filters a channel, K taps, H and KV heads of E numbers.
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
        u = norm(config, part(block, "norm1."), x)
        own = part(block, "mixer.")
        if mixer == "attention":
            x = x + attention(config, own, u)
        else:
            x = x + hyena(config, mixer, own, u)
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


def hyena(config: ModelConfig, mixer: str, state: State, u: Tensor) -> Tensor:
    z = projected(state, u)
    z = convolved(z, state["short_conv.weight"]) + state.get("short_conv.bias", 0)
    *gates, v = z.split(config.width, dim=1)
    taps = taps_of(config, mixer, part(state, "filter.taps."), len(u))
    skips = state.get("filter.skip", torch.zeros(len(taps), config.width).double())
    for gate, h, skip in zip(reversed(gates[1:]), taps, skips, strict=True):
        v = convolved(gate * v, h) + skip * gate * v
    return (gates[0] * v) @ state["out_proj.weight"].t() + state["out_proj.bias"]


def projected(state: State, u: Tensor) -> Tensor:
    return u @ state["in_proj.weight"].t() + state.get("in_proj.bias", 0)


def taps_of(config: ModelConfig, mixer: str, state: State, length: int) -> Tensor:
    """The filters at lags 0 … length − 1 or as far as they go, (F, D, K)."""
    t = torch.arange(length).double()
    if "weight" in state:
        h = state["weight"]
        if mixer == "hyena-mr" and config.striped.medium_decay:
            _, groups, K = h.shape
            rates = 100.0 ** (torch.arange(groups).double() / max(groups - 1, 1))
            h = h * torch.exp(-rates[:, None] * torch.arange(K) / (K - 1))
    elif "log_poles" in state:
        h = (state["residues"][..., None] * torch.exp(state["log_poles"][..., None] * t)).sum(-2)
    else:
        residues, poles = (torch.view_as_complex(state[n]) for n in ("residues", "poles"))
        h = (residues[..., None] * poles[..., None] ** t).real.sum(-2)
    return h.repeat_interleave(config.width // h.shape[1], dim=1)


def convolved(u: Tensor, taps: Tensor) -> Tensor:
    """Each channel of u (L, C) with its own taps (C, K), the first at lag 0."""
    y = torch.zeros_like(u)
    for t in range(len(u)):
        for lag in range(min(t + 1, taps.shape[1])):
            y[t] += taps[:, lag] * u[t - lag]
    return y


def attention(config: ModelConfig, state: State, u: Tensor) -> Tensor:
    """Each head of queries with the head of keys and values that its neighbours have too."""
    H, E = config.heads, config.width // config.heads
    KV, half = config.kv_heads or H, E // 2
    q, k, v = projected(state, u).split([H * E, KV * E, KV * E], dim=1)
    heads = []
    for head in range(H):
        shared = head * KV // H
        own, other = (slice(i * E, (i + 1) * E) for i in (head, shared))
        turned = []
        for x in (q[:, own], k[:, other]):
            pairs = torch.complex(x[:, :half], x[:, half:])
            t = torch.arange(len(u)).double()[:, None] / config.rotary_scale
            t = t * (config.positions == "rotary")
            angle = t * config.rotary_base ** (-2 * torch.arange(half).double() / E)
            turned.append(pairs * torch.polar(torch.ones_like(angle), angle))
        rows = []
        for t in range(len(u)):
            scores = (turned[0][t] * turned[1][: t + 1].conj()).real.sum(1) / math.sqrt(E)
            rows.append(scores.softmax(0) @ v[: t + 1, other])
        heads.append(torch.stack(rows))
    return torch.cat(heads, dim=1) @ state["out_proj.weight"].t() + state["out_proj.bias"]
