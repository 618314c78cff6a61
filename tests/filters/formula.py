"""The filter's formula, number by number (the paper's section 3.3 and App. D.3)."""

import math

import torch
from torch import Tensor

from hyena.filters import HyenaFilter


def encoding_at(n: float, max_length: int, emb_dim: int) -> list[float]:
    """[t, cos(f w), −sin(f w)] at position n, which need not be whole."""
    bands = (emb_dim - 1) // 2
    t = n / (max_length - 1)
    w = 2 * math.pi * n / max_length
    step = (bands - 1 - 1e-4) / (bands - 1) if bands > 1 else 0.0
    frequencies = [1e-4 + step * i for i in range(bands)]
    return [t, *(math.cos(f * w) for f in frequencies), *(-math.sin(f * w) for f in frequencies)]


def network_of(filter: HyenaFilter, x: list[float]) -> list[float]:
    """The sine network, an output a filter and channel."""
    freq = filter.sine_freq.tolist()
    for layer in filter.layers[:-1]:
        weight, bias = layer.weight.tolist(), layer.bias.tolist()
        x = [
            math.sin(w * (sum(a * b for a, b in zip(row, x, strict=True)) + c))
            for w, row, c in zip(freq, weight, bias, strict=True)
        ]
    last = filter.layers[-1].weight.tolist()
    return [sum(a * b for a, b in zip(row, x, strict=True)) for row in last]


def taps_at(filter: HyenaFilter, x: list[float], t: float) -> list[list[float]]:
    """h[filter][channel] where the encoding is x and the time t."""
    F, D = filter.filters, filter.channels
    flat = network_of(filter, x)
    h = [flat[i * D : (i + 1) * D] for i in range(F)]
    decay = filter.decay.tolist()
    for i in range(F):
        for d in range(D):
            if filter.window:
                h[i][d] *= math.exp(-abs(t) * abs(decay[i][d])) + filter.shift
    if filter.normalized:
        norm = sum(abs(value) for row in h for value in row)
        h = [[value / norm for value in row] for row in h]
    return h


def filter_at(filter: HyenaFilter, positions: list[float]) -> Tensor:
    """(F, D, positions) in float64, the encoding computed, not read from a table."""
    M = filter.max_length
    columns = [taps_at(filter, encoding_at(n, M, filter.emb_dim), n / (M - 1)) for n in positions]
    return torch.tensor(columns, dtype=torch.float64).permute(1, 2, 0)
