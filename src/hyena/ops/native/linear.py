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
    """Whether x is `few` rows (B, I), and the layers take such rows and are of its dtype."""
    return few(x) and all(is_layer(layer, x.dtype, x.shape[1]) for layer in layers)


def few(x: Tensor) -> bool:
    """Whether x is a few rows (B, I) of numbers that the kernel knows."""
    known = x.dtype in DTYPES and x.dim() == 2 and not torch.is_autocast_enabled("cpu")
    return known and x.shape[0] <= MOST_ROWS


def is_layer(layer: Layer, dtype: torch.dtype, inputs: int) -> bool:
    """Whether it takes rows of so many numbers, and the kernel can read it where it is."""
    weight, bias = layer
    if not readable(weight, dtype) or weight.shape[1:] != (inputs,):
        return False
    return bias is None or (readable(bias, dtype) and bias.shape == weight.shape[:1])


def readable(x: Tensor, dtype: torch.dtype) -> bool:
    """Whether its memory is its values, in order: the kernel sees addresses alone."""
    return (
        x.dtype == dtype
        and x.is_cpu
        and x.layout == torch.strided
        and x.is_contiguous()
        and not x.is_neg()
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
