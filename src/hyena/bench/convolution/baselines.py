"""What the convolution and the operator are measured against, written by us.

Sizes: B batch, L length, D width, H heads, E head size, J taps of the short convolution.
"""

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hyena.bench.reference import head_size
from hyena.filters import HyenaFilter
from hyena.mixers import HyenaOperator
from hyena.mixers.hyena.short_conv import bias_of


def public_long_conv(u: Tensor, k: Tensor, skip: Tensor | None = None) -> Tensor:
    """The public recipe: real transforms of twice the length, that of the filter in every call.

    u (B, D, L), k (D, K) with K ≤ L, skip (D,) if there is one. Poli et al. 2023
    (arXiv:2302.10866), section 2.1.
    """
    L = u.shape[-1]
    n = 2 * L
    k_spectrum = torch.fft.rfft(k, n=n) / n
    u_spectrum = torch.fft.rfft(u, n=n)
    y = torch.fft.irfft(u_spectrum * k_spectrum, n=n, norm="forward")[..., :L]
    return y if skip is None else y + u * skip[:, None]


def public_gated_conv(z: Tensor, k: Tensor, skip: Tensor, *short: Tensor) -> Tensor:
    """The public recipe between its gates; z (B, 3D, L) as in `hyena.ops.gated_conv`, and with a
    short convolution first its taps (3D, J) and bias (3D,)."""
    if short:
        z = public_short_conv(z, *short)
    post, pre, value = z.split(z.shape[1] // 3, dim=1)
    return public_long_conv(value * pre, k, skip) * post


def public_short_conv(z: Tensor, taps: Tensor, bias: Tensor | None = None) -> Tensor:
    """The short convolution of z (B, C, L) with taps (C, J), padded on both sides and cut."""
    C, J = taps.shape
    y = F.conv1d(z, taps.flip(1)[:, None], bias, padding=J - 1, groups=C)
    return y[..., : z.shape[-1]]


class PublicOperator(nn.Module):
    """The Hyena operator of order 2 as public code computes it, with the weights of ours.

    Poli et al. 2023 (arXiv:2302.10866), Algorithms 1-3: (B, L, D) layers, a depthwise
    `torch.nn.Conv1d` padded on both sides and cut, a filter generated position by position as
    (1, L, D) in each call and turned to (D, L), then `public_long_conv`.
    """

    def __init__(self, ours: HyenaOperator) -> None:
        super().__init__()
        filter = None if ours.bidirectional else ours.filter
        if ours.order != 2 or not isinstance(filter, HyenaFilter) or filter.encoding is not None:
            raise ValueError(
                "PublicOperator: expected a causal HyenaOperator of order 2 with a HyenaFilter "
                f"whose encoding is not trained, got order {ours.order}, "
                f"bidirectional={ours.bidirectional}"
            )
        D, J, dtype = ours.width, ours.short_width, ours.in_proj.weight.dtype
        self.width = D
        self.in_proj = nn.Linear(D, 3 * D, dtype=dtype)
        self.out_proj = nn.Linear(D, D, dtype=dtype)
        self.short_filter = nn.Conv1d(3 * D, 3 * D, J, padding=J - 1, groups=3 * D, dtype=dtype)
        self.filter = PublicFilter(filter)
        with torch.no_grad():
            for mine, its in ((self.in_proj, ours.in_proj), (self.out_proj, ours.out_proj)):
                mine.weight.copy_(its.weight)
                mine.bias.copy_(its.bias)
            self.short_filter.weight.copy_(ours.short_conv.weight.flip(1)[:, None])
            cast(Tensor, self.short_filter.bias).copy_(bias_of(ours.short_conv))

    def forward(self, u: Tensor) -> Tensor:
        """u (B, L, D) → (B, L, D)."""
        L = u.shape[1]
        z = self.in_proj(u).transpose(1, 2)  # (B, 3D, L), a view
        post, pre, value = self.short_filter(z)[..., :L].split(self.width, dim=1)
        k = self.filter(L)[0].transpose(0, 1)  # (D, L), a view
        y = public_long_conv(value * pre, k, self.filter.skip) * post
        return cast(Tensor, self.out_proj(y.transpose(1, 2)))

    def by_our_names(self) -> dict[str, Tensor]:
        """Its parameters under the names of the `HyenaOperator` that it was made of.

        They hold the same numbers in the same order, but for the taps of the short convolution,
        which are in opposite order along the last dimension.
        """
        names = {
            "in_proj.weight": self.in_proj.weight,
            "in_proj.bias": self.in_proj.bias,
            "out_proj.weight": self.out_proj.weight,
            "out_proj.bias": self.out_proj.bias,
            "short_conv.weight": self.short_filter.weight,
            "short_conv.bias": cast(Tensor, self.short_filter.bias),
            "filter.skip": self.filter.skip,
            "filter.sine_freq": self.filter.sine_freq,
        }
        layers = self.filter.layers.named_parameters()
        return {**names, **{f"filter.layers.{name}": value for name, value in layers}}


class PublicFilter(nn.Module):
    """The implicit filter as public code writes it: filter(L) → (1, L, D).

    Poli et al. 2023 (arXiv:2302.10866), eq. 7. The encoding is a table made once.
    """

    encoding: Tensor
    time: Tensor
    decay: Tensor

    def __init__(self, its: HyenaFilter) -> None:
        super().__init__()
        dtype = its.skip.dtype
        self.shift, self.window, self.normalized = its.shift, its.window, its.normalized
        self.layers = nn.ModuleList(
            nn.Linear(layer.in_features, layer.out_features, layer.bias is not None, dtype=dtype)
            for layer in its.layers
            if isinstance(layer, nn.Linear)
        )
        self.layers.load_state_dict(its.layers.state_dict())
        self.sine_freq = nn.Parameter(its.sine_freq.detach()[None].clone())
        self.skip = nn.Parameter(its.skip.detach()[0].clone())
        self.register_buffer("decay", its.decay.detach().abs().clone())  # (1, D)

        L, bands = its.max_length, (its.emb_dim - 1) // 2
        time = torch.linspace(0, 1, L, dtype=dtype)[None, :, None]
        angle = 2 * math.pi * torch.linspace(0, L - 1, L, dtype=dtype)[None, :, None] / L
        phase = torch.linspace(1e-4, bands - 1, bands, dtype=dtype) * angle  # (1, L, bands)
        self.register_buffer("encoding", torch.cat([time, phase.cos(), -phase.sin()], dim=-1))
        self.register_buffer("time", time)

    def forward(self, length: int) -> Tensor:
        h = self.encoding[:, :length]
        for layer in self.layers[:-1]:
            h = torch.sin(self.sine_freq * layer(h))
        h = self.layers[-1](h)
        if self.window:
            h = h * (torch.exp(-self.time[:, :length] * self.decay) + self.shift)
        return h / h.abs().sum(-1, keepdim=True) if self.normalized else h


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal softmax attention through PyTorch's fused kernel; (B, H, L, E) each."""
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


class AttentionBlock(nn.Module):
    """What attention costs in a model: one projection to q, k, v, `attention`, one output
    projection; without positions, which would cost more. (B, L, D) → (B, L, D)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width, self.head = width, head_size(width)
        self.in_proj = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, u: Tensor) -> Tensor:
        y = attention(*self.heads(u))
        return cast(Tensor, self.out_proj(y.transpose(1, 2).flatten(2)))

    def heads(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values: views (B, H, L, E) of one product."""
        z = self.in_proj(u).unflatten(-1, (3, self.width // self.head, self.head))
        q, k, v = z.permute(2, 0, 3, 1, 4).unbind(0)
        return q, k, v
