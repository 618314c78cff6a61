"""A decaying sum in which the latest terms have weights of their own.

Sizes: B batch, L length, D channels, K taps; S sums side by side.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hyena.ops.observed import differentiated, observer

TILE = 1 << 18  # numbers in a tile of x: small enough for the caches, large for the overhead


def windowed_sum(x: Tensor, total: Tensor, kept: Tensor, weights: Tensor) -> Tensor:
    r"""Weighs the last K terms anew and all earlier ones by one, in O(L·K).

    .. math::
        y_t = \sum_{j<K} w_j \Big(\prod_{i=t-j+1}^{t} r_i\Big) x_{t-j}
              + \Big(\prod_{i=t-K+1}^{t} r_i\Big)\, T_{t-K}

    with the weights w, the shares r that a step keeps, and the running sum T. As a nested product,
    w_0 x_t + r_t (w_1 x_{t−1} + r_{t−1} (… r_{t−K+1} T_{t−K})), it needs neither a division nor,
    for terms that are positive, a difference: nothing cancels and nothing overflows.

    Args:
        x: terms, (S, B, L, D).
        total: their running sums, (S, B, L, D): T_t = x_t + r_t T_{t−1}.
        kept: r, (B, L, D), from zero to one; zero where a row or document begins.
        weights: w, (K, D).

    Returns: y, (S, B, L, D). Differentiable in x, total and weights, twice; not in ``kept``.
    """
    # Each tap's weights side by side: else the processor's vector instructions cannot be used.
    y: Tensor = differentiated(_WindowedSum, x, total, kept, weights.contiguous())
    return y


class _WindowedSum(torch.autograd.Function):
    """What is changed in place is made of x or the weights, so that they may be mapped over."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, total: Tensor, kept: Tensor, weights: Tensor) -> Tensor:
        K = weights.shape[0]
        y = []
        for start, stop in _tiles(x, K):
            terms, share, part = (_rows(t, start - K, stop) for t in (x, kept, total))
            for i in range(1, K + 1):  # each factor reads one position more of the past
                now = terms[..., i:, :] * weights[K - i]
                part = _plus_product(now, share[..., i:, :], part[..., :-1, :])
            y.append(part)
        return torch.cat(y, dim=-2)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        x, _, kept, weights = inputs
        ctx.save_for_backward(x, kept, weights)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, None, Tensor]:
        x, kept, weights = ctx.saved_tensors
        K = weights.shape[0]
        dx, dtotal, dweights = [], [], []
        for start, stop in _tiles(x, K):
            terms, length = x[..., start:stop, :], stop - start
            share, part = (_rows(t, start, stop + K) for t in (kept, dy))
            dterms, dtaps = part[..., :length, :] * weights[0], []
            for j in range(K):
                here = part[..., :length, :]
                if j > 0:
                    dterms = _plus_product(dterms, here, weights[j])
                dtaps.append((here * terms).sum((0, 1, 2)))
                part = share[..., 1 : part.shape[-2], :] * part[..., 1:, :]
            dx.append(dterms)
            dtotal.append(part)
            dweights.append(torch.stack(dtaps))
        return torch.cat(dx, -2), torch.cat(dtotal, -2), None, torch.stack(dweights).sum(0)


def _plus_product(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """x + a·b; in the memory of x, but under torch.func, whose vmap would go row by row there."""
    return x + a * b if observer(()) == "transform" else x.addcmul_(a, b)


def _tiles(x: Tensor, taps: int) -> Iterator[tuple[int, int]]:
    """Positions from and to, of pieces that fit in a cache but are not shorter than the window."""
    L = x.shape[-2]
    rows = max(taps, TILE * L // max(x.numel(), 1))
    for start in range(0, max(L, 1), rows):
        yield start, min(start + rows, L)


def _rows(t: Tensor, start: int, stop: int) -> Tensor:
    """Positions start … stop − 1, zero where there are none."""
    L = t.shape[-2]
    part = t[..., max(start, 0) : min(stop, L), :]
    if start >= 0 and stop <= L:
        return part
    return F.pad(part, (0, 0, max(-start, 0), max(stop - L, 0)))
