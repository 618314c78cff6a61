"""Linear layers between channels last and channels first, without a transpose in memory.

Sizes: B batch, L length, D channels in, C channels out.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hyena.filters.plain import matrix_of
from hyena.ops.native import linear as native
from hyena.ops.native.operator import dtype_of_product, project
from hyena.ops.native.step import Layers
from hyena.ops.observed import observer

SHORT = 32  # rows up to here are multiplied all at once: one by one their number is what costs


def channels_first(linear: nn.Linear, u: Tensor) -> Tensor:
    """``linear(u)`` for u (B, L, D), as (B, C, L) with neighbouring positions side by side."""
    if not is_written_out(linear, u):
        return linear(u).transpose(1, 2).contiguous()
    weight: Tensor = linear.weight
    bias: Tensor | None = linear.bias
    if observer((u, weight, bias)) not in ("nobody", "autograd"):
        rows, columns = weight.expand(u.shape[0], -1, -1), u.transpose(1, 2)
        if bias is None:
            return torch.bmm(rows, columns)
        return torch.baddbmm(bias[:, None], rows, columns)
    dtype = dtype_of_product(u)
    with torch.autocast("cpu", enabled=False):
        added = None if bias is None else bias.to(dtype)
        z: Tensor = _ChannelsFirst.apply(u.to(dtype), weight.to(dtype), added)
    return z


def channels_last(linear: nn.Linear, y: Tensor) -> Tensor:
    """``linear`` of y (B, D, L), as (B, L, C), in memory of its own."""
    y = y.transpose(1, 2)
    if not may_write_out(linear, y):
        return linear(y.contiguous())
    if y.shape[0] == 1:
        return torch.addmm(linear.bias, y[0], linear.weight.t())[None]
    return torch.baddbmm(linear.bias, y, linear.weight.t().expand(y.shape[0], -1, -1))


def layers_of_step(first: nn.Module, last: nn.Module, u: Tensor) -> Layers | None:
    """Weights and biases of two layers that are their matrices and nothing else, if the kernel can
    multiply u (B, D), a few rows, with the first, and what is like u with the last. Whether
    something looks on has to be asked besides."""
    one, other = matrix_of(first), matrix_of(last)
    if one is None or other is None or not native.fits(u, one, other):
        return None
    return one, other


def apply_linear(linear: nn.Module, u: Tensor) -> Tensor:
    """``linear(u)``, quick for u (B, D), a token of each row."""
    layer = matrix_of(linear) if u.dim() == 2 else None
    y: Tensor = linear(u) if layer is None else product_of_step(u, *layer)
    return y


def product_of_step(u: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``torch.nn.functional.linear``, quick for u (B, D), a token of each row."""
    if native.takes(u, weight, bias):
        return native.linear(u, weight, bias)
    return F.linear(u, weight, bias)


class _ChannelsFirst(torch.autograd.Function):
    """(u, weight, bias or None) → z (B, C, L)."""

    @staticmethod
    def forward(u: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if _are_short(u):
            rows = u.flatten(0, 1)
            z = rows @ weight.t() if bias is None else torch.addmm(bias, rows, weight.t())
            return z.unflatten(0, u.shape[:2]).transpose(1, 2).contiguous()
        return project(u, weight, bias, _fresh)

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor
    ) -> None:
        ctx.save_for_backward(inputs[0], inputs[1])

    @staticmethod
    def backward(ctx: Any, dz: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        u, weight = ctx.saved_tensors
        du = dweight = dbias = None
        if ctx.needs_input_grad[0]:
            du = dz.transpose(1, 2) @ weight
        if ctx.needs_input_grad[1] and _are_short(u):
            dweight = dz.transpose(0, 1).flatten(1) @ u.flatten(0, 1)
        elif ctx.needs_input_grad[1]:
            dweight = dz[0] @ u[0]
            for i in range(1, dz.shape[0]):
                dweight = dweight.addmm_(dz[i], u[i])
        if ctx.needs_input_grad[2]:
            dbias = dz.sum((0, 2))
        return du, dweight, dbias


def _are_short(u: Tensor) -> bool:
    """Whether u (B, L, D) is several rows that are short."""
    return u.shape[0] > 1 and u.shape[1] <= SHORT


def may_write_out(linear: nn.Linear, u: Tensor) -> bool:
    """Whether the layer is a matrix and a bias, so that its product with u may be written out."""
    return is_written_out(linear, u) and linear.bias is not None


def is_written_out(linear: nn.Linear, u: Tensor) -> bool:
    """Whether it is a matrix, with a bias or without, whose product with u `channels_first` writes
    out."""
    return matrix_of(linear) is not None and u.is_cpu and u.numel() > 0


def _fresh(shape: tuple[int, int, int], dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="cpu")
