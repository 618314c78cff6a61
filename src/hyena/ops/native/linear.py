"""A linear layer on a few rows, whose cost is that of reading its weight.

PyTorch's own product of a matrix and one vector runs on a single thread.

Sizes: B rows, I inputs, O outputs.
"""

import ctypes

import torch
from torch import Tensor

from hyena.ops.native import library
from hyena.ops.native._abi import DTYPES, Linear
from hyena.ops.native._call import in_order
from hyena.ops.observed import unobserved

MOST_ROWS = 8  # with more, PyTorch's product of two matrices is as fast

Layer = tuple[Tensor, Tensor | None]
"""Weight (O, I) and bias (O,), if there is one."""


def takes(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    """Whether the kernel can compute this: it `fits`, with no gradient and nothing looking on."""
    loaded = library.kernel() is not None and x.is_cpu
    return loaded and unobserved(x, weight, bias) and fits(x, (weight, bias))


def fits(x: Tensor, *layers: Layer) -> bool:
    """Whether x is a few rows (B, I), and the layers take rows of I numbers, are of its dtype, and
    such that the kernel can read them where they are: it sees addresses alone."""
    dtype = x.dtype
    if dtype not in DTYPES or x.dim() != 2 or torch.is_autocast_enabled("cpu"):
        return False
    rows, inputs = x.shape
    if rows > MOST_ROWS:
        return False
    for weight, bias in layers:
        if not _readable(weight, dtype) or weight.shape[1:] != (inputs,):
            return False
        if bias is not None and not (_readable(bias, dtype) and bias.shape == weight.shape[:1]):
            return False
    return True


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


def _readable(x: Tensor, dtype: torch.dtype) -> bool:
    return (
        x.dtype == dtype
        and x.is_cpu
        and x.layout == torch.strided
        and x.is_contiguous()
        and not x.is_neg()
    )
