"""Calls of the kernel on tensors: shapes and dtypes are settled, memory is made, C does the rest.

Sizes: B batch, D channels, L length, K taps, J taps of the short convolution, P parts of the input:
1 for the value alone, 3 for the gate after, the gate before and the value.
"""

import ctypes
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from hyena.ops._convolution import Convolution
from hyena.ops.native import library
from hyena.ops.native._abi import DTYPES, Conv, Gradients, Row
from hyena.ops.segments import Segments


def transform_size(length: int) -> int:
    """The transform's size for rows of this length."""
    return _size(library.loaded().isa, length)


def spectrum(k: Tensor, skip: Tensor | None, lead: int, length: int) -> Tensor:
    """Spectra of the filters k (D, K) for rows of up to ``length``, in the kernel's own order."""
    kernel = library.loaded()
    D, n = k.shape[0], _size(kernel.isa, length)
    k, skip = in_order(k), None if skip is None else in_order(skip)
    values = torch.empty(kernel.spectrum_floats(D, n), dtype=torch.float32, device="cpu")
    conv = Conv(channels=D, n=n, parts=1, lead=lead, k=k.data_ptr(), taps=k.shape[1])
    conv.k_stride, conv.skip = conv.taps, None if skip is None else skip.data_ptr()
    if kernel.spectrum(conv, values.data_ptr()):
        raise no_memory()
    return values


def forward(c: Convolution, *, out: Tensor | None = None, offset: Tensor | None = None) -> Tensor:
    """y (B, D, L) of z (B, P·D, L), new and contiguous.

    Args:
        out: y goes there, without autograd's notice; it is like z, positions side by side.
        offset: (P·D,) float32, added to z first.
    """
    kernel, y = library.outcome.kernel or library.loaded(), out
    if y is None:
        B, channels, L = c.z.shape
        y = c.z.new_empty((B, channels // c.parts, L))
    conv, calls, _keep = describe(c, y, kernel.isa, offset)
    for conv.n, conv.rows, conv.row in calls:
        if kernel.forward(conv):
            raise no_memory()
    return y


def backward(dy: Tensor, c: Convolution, need: Sequence[bool]) -> Sequence[Tensor | None]:
    """Gradients of sum(dy · y) in z, filter, skip, taps and bias; None where not needed."""
    kernel = library.outcome.kernel or library.loaded()
    if dy.is_neg() or (dy.stride(2) != 1 and dy.shape[2] != 1):
        dy = in_order(dy)
    conv, calls, _keep = describe(c, dy, kernel.isa)
    _, channels, L = c.z.shape
    found = [
        torch.empty_like(x, memory_format=torch.contiguous_format)
        if needed and x is not None
        else None
        for x, needed in zip(c.tensors, need, strict=True)
    ]
    to = found
    for conv.n, conv.rows, conv.row in calls:
        addresses = [None if x is None else x.data_ptr() for x in to]
        if kernel.backward(conv, Gradients(addresses[0], channels * L, L, *addresses[1:])):
            raise no_memory()
        if to is not found:
            for x, more in zip(found[1:], to[1:], strict=True):
                if x is not None and more is not None:
                    x += more
        if len(calls) > 1:  # each writes rows of its own of the input's gradient, and other sums
            to = [found[0], *(None if x is None else torch.empty_like(x) for x in found[1:])]
    return found


def describe(
    c: Convolution, y: Tensor, isa: str, offset: Tensor | None = None
) -> tuple[Conv, Sequence[tuple[int, int, Any]], Any]:
    """The struct; what it lacks, (size of the transform, number of rows, rows) of each call; and
    what its pointers need kept alive."""
    z, k = c.z, c.filter
    if z.is_neg() or (z.stride(2) != 1 and z.shape[2] != 1):
        z = in_order(z)
    spectrum, taps, k_stride, K = 0, 0, 0, 0
    if c.n:
        k = _spectrum_values(c)
        spectrum = k.data_ptr()
    elif k is not None:
        if k.is_neg() or (k.stride(1) != 1 and k.shape[1] != 1):
            k = in_order(k)
        taps, k_stride, K = k.data_ptr(), k.stride(0), k.shape[1]
    keep, addresses = [z, k], []
    for x in (offset, c.taps, c.bias, c.skip):
        if x is not None and (x.is_neg() or not x.is_contiguous()):
            x = in_order(x)
            keep.append(x)
        addresses.append(None if x is None else x.data_ptr())
    *beside, skip = addresses
    batch, channel, _ = z.stride()
    y_batch, y_channel, _ = y.stride()
    conv = Conv(
        *(y.shape[1], 0, None, 0, DTYPES[z.dtype], c.parts),
        *(z.data_ptr(), batch, channel, *beside),
        *(0 if c.taps is None else c.taps.shape[1], c.short_lead),
        *(spectrum, taps, k_stride, K, c.lead, skip),
        *(y.data_ptr(), y_batch, y_channel),
    )
    if c.segments is not None:
        calls = c.segments.once(_every_document) if k is None else c.segments.once(_groups, isa)
    else:
        B, _, L = z.shape
        calls = [(c.n or (0 if k is None else _size(isa, L)), B, _every_row(B, L))]
    return conv, calls, keep


def _groups(segments: Segments, isa: str) -> list[tuple[int, int, Any]]:
    """Documents whose transforms are of one size go together."""
    bounds = segments.bounds
    found, which = bounds[:, 2].unique(return_inverse=True)
    sizes = torch.tensor([_size(isa, length) for length in found.tolist()])[which]
    return [(n, *_rows(bounds[sizes == n])) for n in sizes.unique().tolist()]


def _every_document(segments: Segments) -> list[tuple[int, int, Any]]:
    """All of them, where nothing is transformed."""
    return [(0, *_rows(segments.bounds))]


def _rows(bounds: Tensor) -> tuple[int, Any]:
    count = len(bounds)
    rows, bounds = (Row * count)(), bounds.contiguous()
    ctypes.memmove(rows, bounds.data_ptr(), ctypes.sizeof(rows))
    return count, rows


@lru_cache(maxsize=64)
def _every_row(B: int, L: int) -> Any:
    return (Row * B)(*[Row(row, 0, L) for row in range(B)])


@lru_cache(maxsize=1024)
def _size(isa: str, length: int) -> int:
    size = library.loaded().size(length)
    if size == -1:
        raise ValueError(f"the native kernel has no transform for a row of {length} positions")
    if size < 0:
        raise no_memory()
    return size


@lru_cache(maxsize=64)
def _spectrum_floats(isa: str, channels: int, n: int) -> int:
    return library.loaded().spectrum_floats(channels, n)


def _spectrum_values(c: Convolution) -> Tensor:
    """Those of a spectrum, if it is for such an input: the kernel would not notice."""
    isa, x, D, L = library.loaded().isa, c.filter, c.z.shape[1] // c.parts, c.z.shape[2]
    assert x is not None
    n = _size(isa, L)
    floats = _spectrum_floats(isa, D, n)
    if c.n != n or x.numel() != floats or x.dtype != torch.float32:
        raise ValueError(
            f"a spectrum of the native kernel for {D} channels of length {L} is {floats} float32 "
            f"numbers of n = {n}, but got {x.numel()} of {x.dtype} of n = {c.n}; take it as "
            "filter_spectrum returned it"
        )
    return x.resolve_neg().contiguous()


def no_memory() -> MemoryError:
    return MemoryError("the native kernel found no memory for its scratch space")


def in_order(x: Tensor) -> Tensor:
    """Contiguous, and its memory as its values say."""
    return x.resolve_neg().contiguous()
