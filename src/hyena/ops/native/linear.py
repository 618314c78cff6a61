"""A linear layer on a few rows, whose cost is that of reading its weight.

PyTorch's own product of a matrix and one vector runs on a single thread.

Sizes: B rows, I inputs, O outputs.
"""

import ctypes

import torch
from torch import Tensor

from hyena.ops.native import library
from hyena.ops.native.calls import DTYPES
from hyena.ops.native.convolution import eager
from hyena.ops.native.interface import Linear

MOST_ROWS = 8  # with more, PyTorch's product of two matrices is as fast


def takes(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    """Whether the kernel can compute this: it `fits`, with no gradient and nothing looking on."""
    return eager(x, weight, bias) and fits(x, weight, bias)


def fits(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether x is a few rows (B, I), and weight (O, I) and bias (O,) are of its dtype, and such
    that the kernel can read them where they are: it sees addresses alone."""
    return (
        x.dtype in DTYPES
        and x.dim() == 2
        and x.shape[0] <= MOST_ROWS
        and _readable(weight, x.dtype)
        and weight.dim() == 2
        and weight.shape[1] == x.shape[1]
        and (bias is None or (_readable(bias, x.dtype) and bias.shape == weight.shape[:1]))
        and not torch.is_autocast_enabled("cpu")
    )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x weight' + bias, summed in float32: (B, O). Each number is the same in any batch.

    Only for what the kernel `takes`.
    """
    kernel = library.kernel()
    assert kernel is not None
    x = in_order(x)
    y = torch.empty(x.shape[0], weight.shape[0], dtype=x.dtype, device="cpu")
    dtype = DTYPES[x.dtype]
    argument = Linear(
        x.shape[0],
        *(weight.shape[1], weight.shape[0]),
        *(dtype, dtype, dtype),
        x.data_ptr(),
        weight.data_ptr(),
        None if bias is None else bias.data_ptr(),
        y.data_ptr(),
    )
    if kernel.linear(ctypes.byref(argument)):
        raise MemoryError("the native kernel found no memory for a linear layer")
    return y


def point(call: Linear, x: Tensor, weight: Tensor, bias: Tensor | None, y: Tensor) -> None:
    """Makes ``call`` that of a layer: x (B, I) and y (B, O), float32 or of the layer's dtype, are
    contiguous. All have to stay as long as it is in use."""
    call.batch = x.shape[0]
    call.outputs, call.inputs = weight.shape
    call.dtype, call.x_dtype, call.y_dtype = DTYPES[weight.dtype], DTYPES[x.dtype], DTYPES[y.dtype]
    call.x, call.weight, call.y = x.data_ptr(), weight.data_ptr(), y.data_ptr()
    call.bias = None if bias is None else bias.data_ptr()


def in_order(x: Tensor) -> Tensor:
    """The same numbers one after the other in memory."""
    x = x.contiguous()
    return x.resolve_neg() if x.is_neg() else x


def _readable(x: Tensor, dtype: torch.dtype) -> bool:
    return (
        x.dtype == dtype
        and x.is_cpu
        and x.layout == torch.strided
        and x.is_contiguous()
        and not x.is_neg()
    )
