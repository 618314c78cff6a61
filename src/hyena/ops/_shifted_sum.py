"""The short convolution as shifted multiply-adds, on any device."""

from typing import Any

import torch
from torch import Tensor

from hyena.ops._vmap import fold, to_front, unfold
from hyena.ops.fft import chunks
from hyena.ops.observed import refuses_functions


def _spans(lag: int, length: int) -> tuple[slice, slice]:
    """Positions t, and the positions t − lag that they read, where both exist."""
    if lag >= 0:
        return slice(lag, length), slice(0, max(length - lag, 0))
    return slice(0, max(length + lag, 0)), slice(-lag, length)


def _within(source: Tensor, ids: Tensor | None, here: slice, there: slice) -> Tensor:
    """What positions ``here`` read at ``there``: zero, even for a NaN, out of other documents."""
    if ids is None:
        return source
    return source.masked_fill((ids[:, here] != ids[:, there])[:, None, :], 0)


class ShiftedSum(torch.autograd.Function):
    """Σ_j k_j · (u delayed by lags[j]) within documents; its adjoint in u has the lags negated."""

    @staticmethod
    def forward(u: Tensor, k: Tensor, ids: Tensor | None, lags: tuple[int, ...]) -> Tensor:
        L = u.shape[-1]
        dtype = torch.promote_types(u.dtype, k.dtype)
        wide, taps = u.to(dtype), k.to(dtype)
        zero = lags.index(0)
        y = wide * taps[:, zero, None]
        for j, lag in enumerate(lags):
            if lag == 0 or abs(lag) >= L:
                continue
            here, there = _spans(lag, L)
            source = _within(wide[..., there], ids, here, there)
            if refuses_functions():  # vmap has no rule for addcmul_
                y[..., here] += source * taps[:, j, None]
            else:
                y[..., here].addcmul_(source, taps[:, j, None])
        return y.to(u.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        u, k, ids, ctx.lags = inputs
        ctx.save_for_backward(u, k, ids)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        u, k, ids = ctx.saved_tensors
        du = dk = None
        if ctx.needs_input_grad[0]:
            du = ShiftedSum.apply(dy, k, ids, tuple(-lag for lag in ctx.lags))
        if ctx.needs_input_grad[1]:
            dk = tap_gradient(dy, u, ids, ctx.lags, k.dtype)
        return du, dk, None, None

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[Any, ...],
        u: Tensor,
        k: Tensor,
        ids: Tensor | None,
        lags: tuple[int, ...],
    ) -> Any:
        size = info.batch_size
        u = fold(u, in_dims[0], size)
        k = to_front(k, in_dims[1], size).flatten(0, 1)
        return unfold(ShiftedSum.apply(u, k, ids, lags), size), 0


def tap_gradient(
    dy: Tensor, u: Tensor, ids: Tensor | None, lags: tuple[int, ...], dtype: torch.dtype
) -> Tensor:
    """dk_j = Σ_{b,t} dy_t · u_{t − lags[j]}, (D, K)."""
    wide = torch.promote_types(torch.promote_types(dtype, u.dtype), torch.float32)
    dk = []
    for part in chunks(u, u.shape[-1]):
        taps = []
        for lag in lags:
            here, there = _spans(lag, u.shape[-1])
            source = _within(u[:, part, there].to(wide), ids, here, there)
            # A product and a sum of what fits in cache. einsum would copy both and go row by row,
            # many times slower for a batch, and round to 16 bits where autocast is on.
            taps.append((dy[:, part, here].to(wide) * source).sum((0, 2)))
        dk.append(torch.stack(taps, dim=1))
    return torch.cat(dk).to(dtype)
