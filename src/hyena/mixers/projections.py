"""Linear layers between channels last and channels first, without a transpose in memory.

Sizes: B batch, L length, D channels in, C channels out.
"""

import threading

import torch
from torch import Tensor, nn

LARGEST_KEPT = 256 << 20  # bytes of a thread's workspace that stay between calls

_of_thread = threading.local()


def channels_first(linear: nn.Linear, u: Tensor, *, reuse: bool = False) -> Tensor:
    """``linear(u)`` for u (B, L, D), as (B, C, L) contiguous.

    Args:
        reuse: write to memory of the calling thread, valid until its next call. Only where no
            gradient is recorded.
    """
    if not _plain(linear, u):
        return linear(u).transpose(1, 2).contiguous()
    weight, bias = linear.weight, linear.bias[:, None]
    if reuse:
        dtype = u.dtype
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
        z = _workspace((u.shape[0], weight.shape[0], u.shape[1]), dtype)
        with torch.autocast("cpu", enabled=False):
            weight, bias = weight.to(dtype), bias.to(dtype)
            for row, out in zip(u.to(dtype), z, strict=True):
                torch.addmm(bias, weight, row.t(), out=out)
        return z
    if u.shape[0] == 1:
        return torch.addmm(bias, weight, u[0].t())[None]
    return torch.baddbmm(bias, weight.expand(u.shape[0], -1, -1), u.transpose(1, 2))


def channels_last(linear: nn.Linear, y: Tensor) -> Tensor:
    """``linear`` of y (B, D, L), as (B, L, C), in memory of its own."""
    y = y.transpose(1, 2)
    if not _plain(linear, y):
        return linear(y.contiguous())
    if y.shape[0] == 1:
        return torch.addmm(linear.bias, y[0], linear.weight.t())[None]
    return torch.baddbmm(linear.bias, y, linear.weight.t().expand(y.shape[0], -1, -1))


def _plain(linear: nn.Linear, u: Tensor) -> bool:
    """Whether the layer is its matrix and nothing else: no adapter, hook or parametrisation."""
    hooked = (
        linear._forward_hooks
        or linear._forward_pre_hooks
        or linear._backward_hooks
        or linear._backward_pre_hooks
    )
    return (
        type(linear) is nn.Linear
        and linear.bias is not None
        and not hooked
        and u.device.type == "cpu"
        and u.numel() > 0
    )


def _workspace(shape: tuple[int, int, int], dtype: torch.dtype) -> Tensor:
    """Memory of this thread, kept if it is not too large."""
    size = shape[0] * shape[1] * shape[2] * dtype.itemsize
    memory: Tensor | None = getattr(_of_thread, "memory", None)
    if memory is None or memory.numel() < size:
        # Not an inference tensor, which could not be written to outside inference mode.
        with torch.inference_mode(False):
            memory = torch.empty(size, dtype=torch.uint8)
        if size <= LARGEST_KEPT:
            _of_thread.memory = memory
    return memory[:size].view(dtype).view(shape)
