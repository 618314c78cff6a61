"""The layers of Hyena models in PyTorch alone; see ``modeling_hyena.py``, which imports them.

Sizes: B batch, L length, t positions of a cache, D width, N order, F = N − 1 long convolutions, K
taps of a short one, C channels, H heads of queries, G of keys, E numbers of a head.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TERMS = 1 << 20  # of sums of exponentials that are made at once
STRIPED = {"hyena-se": "short", "hyena-mr": "medium", "hyena-li": "long"}


class RMSNorm(nn.Module):
    """x / (root mean square + eps) · weight, in float32 or wider."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x: Tensor) -> Tensor:
        size = torch.linalg.vector_norm(x, dim=-1, keepdim=True) * x.shape[-1] ** -0.5
        return x / (size + self.eps) * self.weight.to(x.dtype)


def build_norm(config: Any) -> nn.Module:
    """A norm of the residual stream."""
    if config.norm == "rms":
        return RMSNorm(config.hidden_size, config.norm_eps)
    return nn.LayerNorm(config.hidden_size, eps=config.norm_eps)


def normalize(norm: Any, x: Tensor) -> Tensor:
    """The norm in the dtype of the stream x; the result has that of the parameters."""
    if isinstance(norm, nn.LayerNorm):
        weight, bias = norm.weight.to(x.dtype), norm.bias.to(x.dtype)
        return F.layer_norm(x, norm.normalized_shape, weight, bias, norm.eps).to(norm.weight.dtype)
    return norm(x).to(norm.weight.dtype)


def wide(dtype: torch.dtype) -> torch.dtype:
    """float32, or the dtype if that is wider."""
    return torch.promote_types(dtype, torch.float32)


class HyenaFilter(nn.Module):
    """Window(t) · FFN(Encoding(t)), eq. 7 of the paper: (F, D, L), or (F, D, 2L − 1) of both
    directions, with lag 0 in the middle."""

    time: Tensor
    decay: Tensor

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.given, self.config = config.filter, config
        filters, width, c = config.order - 1, config.hidden_size, config.filter
        sizes = [c["emb_dim"]] + [c["width"]] * (c["depth"] - 1)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.layers.append(nn.Linear(c["width"], filters * width, bias=False))
        self.sine_freq = nn.Parameter(torch.full((c["width"],), c["sine_freq"]))
        self.skip = nn.Parameter(torch.randn(filters, width))
        slow, fast = (math.log(100) / c[name] for name in ("slow_decay", "fast_decay"))
        decay = torch.linspace(slow, fast, filters * width).view(width, filters).t().contiguous()
        table = None
        if c["train_encoding"]:
            table = self.encode(self.positions(config.max_position_embeddings))
            self.register_buffer("time", table[:, 0].clone())
        self.encoding = None if table is None else nn.Parameter(table)
        if c["train_decay"]:
            self.decay = nn.Parameter(decay)
        else:
            self.register_buffer("decay", decay)
        for name in ("sine_freq", "decay"):
            getattr(self, name).requires_grad_(c[f"train_{name}"])

    def positions(self, length: int, scale: float = 1.0) -> Tensor:
        start = 1 - length if self.config.bidirectional else 0
        n = torch.arange(start, length, device=self.skip.device)
        return n.to(wide(self.skip.dtype)) * scale

    def encode(self, n: Tensor) -> Tensor:
        """Time, cosines and sines of positions: (P, emb_dim)."""
        longest, bands = self.config.max_position_embeddings, (self.given["emb_dim"] - 1) // 2
        f = torch.linspace(1e-4, bands - 1, bands, dtype=n.dtype, device=n.device)
        phase = n[:, None] * f * (2 * math.pi / longest)
        return torch.cat([n[:, None] / max(longest - 1, 1), phase.cos(), -phase.sin()], dim=1)

    def forward(self, length: int) -> Tensor:
        longest, policy = self.config.max_position_embeddings, self.config.length_policy
        if length > longest and policy == "extrapolate" and self.encoding is not None:
            raise ValueError(
                f"{length} tokens, but the trained encoding is a table of {longest} positions, "
                "which cannot be extrapolated"
            )
        rescaled = length > longest and policy == "interpolate"
        n = self.positions(length, (longest - 1) / (length - 1) if rescaled else 1.0)
        if self.encoding is None:
            x = self.encode(n)
            time = x[:, 0]
        else:  # between the rows of a table
            table = torch.cat([self.time[:, None].to(n.dtype), self.encoding.to(n.dtype)], dim=1)
            place = (n + (longest - 1 if self.config.bidirectional else 0)).clamp(0, len(table) - 1)
            low = place.floor().long()
            high = (low + 1).clamp(max=len(table) - 1)
            table = torch.lerp(table[low], table[high], (place - low)[:, None])
            time, x = table[:, 0], table[:, 1:]
        freq = self.sine_freq.to(n.dtype)
        *inner, last = cast("list[nn.Linear]", [*self.layers])
        for layer in inner:
            x = (freq * F.linear(x, layer.weight.to(n.dtype), layer.bias.to(n.dtype))).sin()
        h = F.linear(x, last.weight.to(n.dtype)).t()
        if self.given["window"]:
            rate = self.decay.to(n.dtype).abs().flatten()[:, None]
            h = h * (torch.exp(-rate * time.abs()) + self.given["shift"])
        h = h.view(*self.skip.shape, -1)
        return h / h.abs().sum((0, 1), keepdim=True) if self.given["normalized"] else h


class ExplicitTaps(nn.Module):
    """Taps that are parameters, each row for some neighbouring channels."""

    def __init__(
        self, filters: int, width: int, taps: int, groups: int | None, decay: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(filters, groups or width, taps) / math.sqrt(taps))
        self.repeats, self.decay = width // (groups or width), decay

    def forward(self, length: int) -> Tensor:
        h = self.weight.to(wide(self.weight.dtype))
        if self.decay:
            dtype, device = h.dtype, h.device
            rate = torch.logspace(0, 2, h.shape[1], dtype=dtype, device=device)[:, None]
            time = torch.linspace(0, 1, h.shape[2], dtype=dtype, device=device)
            h = h * torch.exp(-rate * time)
        return F.pad(h, (0, length - h.shape[2])).repeat_interleave(self.repeats, dim=1)


def sums_of_powers(weight: Tensor, exponent: Tensor, t: Tensor) -> Tensor:
    """Σ weight · e^{exponent · t}, (…, M) each, at times t (L,): (…, L), some times at once."""
    parts = t.split(max(1, TERMS // max(exponent.numel(), 1)))
    sums = [
        ((exponent[..., None, :] * part[:, None]).exp() * weight[..., None, :]).sum(-1)
        for part in parts
    ]
    return torch.cat(sums, dim=-1)


class ModalTaps(nn.Module):
    """Re Σ residue · pole^t, in pairs of real numbers."""

    def __init__(self, filters: int, width: int, modes: int, groups: int | None) -> None:
        super().__init__()
        shape = filters, groups or width, modes, 2
        self.poles = nn.Parameter(torch.rand(shape) / 2)
        self.residues = nn.Parameter(torch.rand(shape))
        self.repeats = width // (groups or width)

    def forward(self, length: int) -> Tensor:
        real, imaginary = self.poles.double().unbind(-1)
        modulus = (real.square() + imaginary.square()).clamp(min=1e-300).log() / 2
        exponent = torch.complex(modulus, torch.atan2(imaginary, real))
        t = torch.arange(length, dtype=torch.float64, device=exponent.device)
        weight = torch.view_as_complex(self.residues.double().contiguous())
        h = sums_of_powers(weight, exponent, t).real
        return h.to(wide(self.poles.dtype)).repeat_interleave(self.repeats, dim=1)


class RealModalTaps(nn.Module):
    """Σ residue · e^{λt}."""

    def __init__(self, filters: int, width: int, modes: int) -> None:
        super().__init__()
        self.log_poles = nn.Parameter(-torch.rand(filters, width, modes))
        self.residues = nn.Parameter(torch.randn(filters, width, modes))

    def forward(self, length: int) -> Tensor:
        rate = self.log_poles.to(wide(self.log_poles.dtype))
        t = torch.arange(length, dtype=rate.dtype, device=rate.device)
        weight = self.residues.to(rate.dtype)
        return sums_of_powers(weight, rate, t)


class LongFilter(nn.Module):
    """Taps of another kind, and the weight of the direct path beside them."""

    def __init__(self, taps: nn.Module, filters: int, width: int, skip: bool = True) -> None:
        super().__init__()
        self.taps = taps
        self.skip = nn.Parameter(torch.randn(filters, width)) if skip else None

    def forward(self, length: int) -> Tensor:
        h: Tensor = self.taps(length)
        return h


def widen_filters(model: nn.Module) -> None:
    """Puts what filters are computed from into float32, where a model is made in fewer bits."""
    for part in model.modules():
        if isinstance(part, HyenaFilter | ExplicitTaps | ModalTaps | RealModalTaps):
            for name, x in (*part.named_parameters(), *part.named_buffers()):
                if name != "skip":
                    x.data = x.data.to(wide(x.dtype))


def build_filter(config: Any, mixer: str) -> nn.Module:
    """The filter of a hyena layer by the layer's name."""
    width, c, s = config.hidden_size, config.filter, config.striped
    filters = config.order - 1 if mixer == "hyena" else 1
    kind = c["kind"] if mixer == "hyena" else STRIPED[mixer]
    if kind == "hyena":
        return HyenaFilter(config)
    if kind == "long":
        taps: nn.Module = RealModalTaps(1, width, s["modes"])
    elif kind == "modal":
        taps = ModalTaps(filters, width, c["modes"], c["groups"])
    elif kind == "explicit":
        taps = ExplicitTaps(filters, width, c["taps"], c["groups"])
    elif kind == "medium":
        taps = ExplicitTaps(1, width, s["medium_taps"], s["groups"], s["medium_decay"])
    elif kind == "short":
        taps = ExplicitTaps(1, width, s["short_taps"], s["groups"])
    else:
        raise ValueError(f"{kind} filters are of the package hyena: import hyena.huggingface")
    return LongFilter(taps, filters, width, skip=kind != "short")


class ShortConv(nn.Module):
    """Depthwise: tap j has lag j, or j − (K − 1)/2 if not causal; z (B, C, L) behind ``before``."""

    def __init__(self, channels: int, taps: int, causal: bool, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels, taps) / math.sqrt(taps))
        self.bias = nn.Parameter(torch.zeros(channels)) if bias else None
        self.causal = causal

    def forward(self, z: Tensor, before: Tensor | None = None) -> tuple[Tensor, Tensor]:
        K, L = self.weight.shape[1], z.shape[2]
        ahead = 0 if self.causal else (K - 1) // 2
        z = F.pad(z, (K - 1 - ahead, ahead)) if before is None else torch.cat([before, z], dim=2)
        y: Any = 0 if self.bias is None else self.bias[:, None]
        for lag, tap in enumerate(self.weight.unbind(1)):
            y = y + tap[:, None] * z[..., K - 1 - lag : K - 1 - lag + L]
        return y.to(z.dtype), z[..., z.shape[2] - K + 1 :]


class HyenaOperator(nn.Module):
    """Definition 3.1: v ← long_conv(h, xⁿ · v) for n = N − 1 … 1, then out_proj(x⁰ · v)."""

    def __init__(self, config: Any, mixer: str, layer: int) -> None:
        super().__init__()
        width, self.config, self.layer = config.hidden_size, config, layer
        self.order = config.order if mixer == "hyena" else 2
        self.in_proj = nn.Linear(width, (self.order + 1) * width, bias=config.in_proj_bias)
        self.out_proj = nn.Linear(width, width)
        causal = not config.bidirectional
        sizes = (self.order + 1) * width, config.short_width, causal, config.in_proj_bias
        both = "centred_short_conv", "two_sided_filter"
        self.names = ("short_conv", "filter") if causal else both
        setattr(self, self.names[0], ShortConv(*sizes))
        setattr(self, self.names[1], build_filter(config, mixer))

    def forward(self, u: Tensor, mask: Tensor | None, cache: Any) -> Tensor:
        real = None if mask is None else mask[:, None]
        z = self.in_proj(u).transpose(1, 2)
        z = z if real is None else z.masked_fill(~real, 0)
        before = None if cache is None else cache.parts[self.layer].get("short")
        z, latest = getattr(self, self.names[0])(z, before)
        h, skip = self.taps(z.shape[2], cache)
        *gates, v = z.unflatten(1, (self.order + 1, -1)).unbind(1)
        for i, gate in enumerate(reversed(gates[1:])):
            v = F.dropout(v * gate, self.config.dropout, self.training)
            v = v if real is None else v.masked_fill(~real, 0)
            known = v if cache is None else cache.extend(self.layer, f"inputs{i}", v, dim=2)
            v = self.convolve(known, v.shape[2], h[i], None if skip is None else skip[i])
        if cache is not None:
            cache.parts[self.layer]["short"] = latest
        return self.out_proj((v * gates[0]).transpose(1, 2))

    def taps(self, length: int, cache: Any) -> tuple[Tensor, Tensor | None]:
        """The filters, for all tokens so far and so many more; kept in a cache."""
        filter = getattr(self, self.names[1])
        if cache is None:
            return filter(length), filter.skip
        needed, kept = cache.length + length, cache.taps[self.layer]
        if kept is None or kept.shape[2] < needed:
            room, longest = max(2 * needed, 256), self.config.max_position_embeddings
            room = min(room, longest) if needed <= longest else room
            kept = cache.taps[self.layer] = filter(room)
        return kept[..., :needed], filter.skip

    def convolve(self, v: Tensor, length: int, h: Tensor, skip: Tensor | None) -> Tensor:
        """The last ``length`` outputs of v (B, D, t) and taps h (D, t), or (D, 2t − 1)."""
        x, t = v.to(torch.promote_types(v.dtype, h.dtype)), v.shape[2]
        if length == 1 and not self.config.bidirectional:
            y = (x * h.flip(1)).sum(2, keepdim=True)
        else:
            n = t + h.shape[1]
            y = torch.fft.irfft(torch.fft.rfft(x, n) * torch.fft.rfft(h, n), n)
            y = y[..., h.shape[1] - t :][..., t - length : t]
        y = y if skip is None else y + skip[:, None].to(y.dtype) * x[..., t - length :]
        return y.to(v.dtype)


class CausalSelfAttention(nn.Module):
    """Causal softmax attention, with rotary positions or none."""

    def __init__(self, config: Any, mixer: str, layer: int) -> None:
        super().__init__()
        width, self.config, self.layer = config.hidden_size, config, layer
        self.size = min(64, width) if config.head_dim is None else config.head_dim
        self.heads = width // self.size
        self.kv_heads = config.kv_heads or self.heads
        keys = self.kv_heads * self.size
        self.in_proj = nn.Linear(width, width + 2 * keys, bias=config.in_proj_bias)
        self.out_proj = nn.Linear(width, width)

    def forward(self, u: Tensor, mask: Tensor | None, cache: Any) -> Tensor:
        H, G, E, L = self.heads, self.kv_heads, self.size, u.shape[1]
        before = 0 if cache is None else cache.length
        z = self.in_proj(u).unflatten(-1, (H + 2 * G, E)).transpose(1, 2)
        q, k, v = z.split([H, G, G], dim=1)
        if self.config.positions == "rotary":
            q, k = self.turned(q, before), self.turned(k, before)
        if cache is not None:
            k, v = (cache.extend(self.layer, n, x, dim=2) for n, x in (("k", k), ("v", v)))
            if mask is not None or "mask" in cache.parts[self.layer]:
                new = u.new_ones(u.shape[:2], dtype=torch.bool) if mask is None else mask
                mask = cache.extend(self.layer, "mask", new, dim=1)
        t = k.shape[2]
        at, key = torch.arange(t - L, t, device=u.device)[:, None], torch.arange(t, device=u.device)
        allowed = key <= at
        if mask is not None:  # padding looks at itself, or its softmax would have nothing to see
            allowed = allowed & mask[:, None, None, :] | (key == at)
        k, v = (x.repeat_interleave(H // G, dim=1) for x in (k, v))
        dropout = self.config.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed, dropout_p=dropout)
        return self.out_proj(y.transpose(1, 2).flatten(2))

    def turned(self, x: Tensor, before: int) -> Tensor:
        t = torch.arange(before, before + x.shape[2], device=x.device).double()
        i = torch.arange(0, self.size, 2, device=x.device).double()
        angle = t[:, None] / self.config.rotary_scale * self.config.rotary_base ** (-i / self.size)
        cos, sin = (f(angle).to(wide(x.dtype)) for f in (torch.cos, torch.sin))
        one, other = x.to(cos.dtype).chunk(2, dim=-1)
        return torch.cat([one * cos - other * sin, other * cos + one * sin], dim=-1).to(x.dtype)


ACTIVATIONS: dict[str, Any] = {
    "gelu-tanh": lambda x: F.gelu(x, approximate="tanh"),
    "gelu": F.gelu,
    "silu": F.silu,
    "identity": lambda x: x,
}


class MLP(nn.Module):
    """down(act(up(x))), or gated, down(act(gate(x)) · up(x))."""

    def __init__(self, config: Any, layer: int) -> None:
        super().__init__()
        self.act = config.layer(config.activation, layer, last_stays=True)
        width = config.hidden_size
        hidden, bias = config.mlp_width or 4 * width, config.mlp == "plain"
        self.gate = None if bias else nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=bias)
        self.down = nn.Linear(hidden, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        act, up = ACTIVATIONS[self.act], self.up(x)
        y: Tensor = self.down(act(up) if self.gate is None else act(self.gate(x)) * up)
        return y


class Block(nn.Module):
    """x + mixer(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, config: Any, layer: int) -> None:
        super().__init__()
        mixer = config.layer(config.mixers, layer)
        if mixer not in ("hyena", "attention", *STRIPED):
            raise ValueError(f"{mixer} layers are of the package hyena: import hyena.huggingface")
        self.norm1, self.norm2 = build_norm(config), build_norm(config)
        kind: Any = CausalSelfAttention if mixer == "attention" else HyenaOperator
        self.mixer, self.mlp = kind(config, mixer, layer), MLP(config, layer)
        self.dropout = config.dropout

    def forward(self, x: Tensor, mask: Tensor | None, cache: Any) -> Tensor:
        u = normalize(self.norm1, x)
        u = u if mask is None else u.masked_fill(~mask[..., None], 0)
        x = x + F.dropout(self.mixer(u, mask, cache), self.dropout, self.training)
        return x + F.dropout(self.mlp(normalize(self.norm2, x)), self.dropout, self.training)
