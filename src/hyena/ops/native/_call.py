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
from hyena.ops.native._abi import DTYPES, Conv, ConvGradients, Gradient, Input, Row, Short
from hyena.ops.native.library import Kernel
from hyena.ops.segments import Segments

_ABSENT = Input()


def transform_size(length: int) -> int:
    """The transform's size for rows of this length."""
    return _size(_loaded().isa, length)


def spectrum(k: Tensor, skip: Tensor | None, lead: int, length: int) -> Tensor:
    """Spectra of the filters k (D, K) for rows of up to ``length``, in the kernel's own order."""
    kernel = _loaded()
    D, n = k.shape[0], _size(kernel.isa, length)
    k, skip = _rows_contiguous(k), _solid(skip)
    values = torch.empty(kernel.spectrum_floats(D, n), dtype=torch.float32, device="cpu")
    conv = Conv(channels=D, n=n, lead=lead, skip=_pointer(skip))
    conv.k, conv.k_stride, conv.taps = k.data_ptr(), k.stride(0), k.shape[1]
    _check(kernel.spectrum(conv, values.data_ptr()))
    return values


def forward(c: Convolution, *, out: Tensor | None = None, offset: Tensor | None = None) -> Tensor:
    """y (B, D, L) of z (B, P·D, L), new and contiguous.

    Args:
        out: y goes there, without autograd's notice; it is like z, positions side by side.
        offset: (P·D,) float32, added to z first.
    """
    kernel, (B, channels, L) = library.outcome.kernel or _loaded(), c.z.shape
    y = out
    if y is None:  # whatever PyTorch's default device is at the moment
        y = torch.empty(B, channels // c.parts, L, dtype=c.z.dtype, device="cpu")
    if c.filter is None:
        short, _keep = _short(c, y)
        _check(kernel.short_forward(short))
        return y
    conv, _keep = _describe(c, y, offset)
    if c.segments is None:
        conv.n, conv.rows, conv.row = c.n or _size(kernel.isa, L), B, _every_row(B, L)
        failed = kernel.forward(conv)
        if failed:
            _check(failed)
        return y
    for conv.n, conv.rows, conv.row in c.segments.once(_groups, kernel.isa):
        _check(kernel.forward(conv))
    return y


def backward(dy: Tensor, c: Convolution, need: Sequence[bool]) -> tuple[Tensor | None, ...]:
    """Gradients of sum(dy · y) in z, filter, skip, taps and bias; None where not needed."""
    kernel, (B, channels, L) = _loaded(), c.z.shape
    dy = _rows_contiguous(dy)
    dz = torch.empty(B, channels, L, dtype=c.z.dtype, device="cpu") if need[0] else None
    if c.filter is None:
        short, _keep = _short(c, dy)
        dtaps, dbias = _like(c.taps, need[3]), _like(c.bias, need[4])
        to = Gradient(_pointer(dz), channels * L, L, _pointer(dtaps), _pointer(dbias))
        _check(kernel.short_backward(short, to))
        return dz, None, None, dtaps, dbias
    conv, _keep = _describe(c, dy)
    groups = [(c.n or _size(kernel.isa, L), B, _every_row(B, L))]
    if c.segments is not None:
        groups = c.segments.once(_groups, kernel.isa)
    total: list[Tensor | None] = []
    for conv.n, conv.rows, conv.row in groups:
        sums = [_like(x, n) for x, n in zip(c.tensors[1:], need[1:], strict=True)]
        _check(kernel.backward(conv, _gradients(c, dz, sums)))
        if total:
            for x, more in zip(total, sums, strict=True):
                if x is not None and more is not None:
                    x += more
        else:
            total = sums
    return dz, *total


def _describe(c: Convolution, y: Tensor, offset: Tensor | None = None) -> tuple[Conv, Any]:
    """The struct without its rows and size, and what its pointers need kept alive."""
    z, k, skip, taps, bias = c.z, c.filter, c.skip, c.taps, c.bias
    assert k is not None
    batch, channel, one = z.stride()
    L = z.shape[2]
    if (one != 1 and L != 1) or z.is_neg():
        z = z.resolve_neg().contiguous()
        batch, channel, one = z.stride()
    D, data = y.shape[1], z.data_ptr()
    filter: tuple[int | None, ...]
    step = D * channel * z.element_size()
    J, shift = 0, 0
    if taps is not None:
        taps, bias = _solid(taps), _solid(bias)
        J = taps.shape[1]
    if offset is not None:
        offset = _solid(offset)
        shift = offset.data_ptr()
    first = 0 if taps is None else taps.data_ptr()
    added = 0 if bias is None else bias.data_ptr()
    inputs = []
    for part in range(c.parts):
        at = 4 * D * part  # bytes of a number for each channel before
        inputs.append(
            Input(
                data + part * step,
                batch,
                channel,
                first + at * J if first else None,
                added + at if added else None,
                shift + at if shift else None,
            )
        )
    value = inputs.pop()
    post, pre = inputs or (_ABSENT, _ABSENT)
    if c.n:
        k = _spectrum_values(c, D, L)
        filter = (k.data_ptr(), None, 0, 0, c.lead, None)
    else:
        stride, one = k.stride()
        if (one != 1 and k.shape[1] != 1) or k.is_neg():
            k = k.resolve_neg().contiguous()
            stride = k.stride(0)
        if skip is not None and (skip.is_neg() or not skip.is_contiguous()):
            skip = skip.resolve_neg().contiguous()
        of_skip = None if skip is None else skip.data_ptr()
        filter = (None, k.data_ptr(), stride, k.shape[1], c.lead, of_skip)
    strides = y.stride()
    conv = Conv(
        *(D, 0, None, 0),
        *(DTYPES[z.dtype], J, c.short_lead),
        *(value, pre, post),
        *filter,
        *(y.data_ptr(), strides[0], strides[1]),
    )
    return conv, (z, k, skip, taps, bias, offset)


def _gradients(c: Convolution, dz: Tensor | None, sums: Sequence[Tensor | None]) -> ConvGradients:
    dk, dskip, dtaps, dbias = sums
    D = c.z.shape[1] // c.parts
    J = 0 if c.taps is None else c.taps.shape[1]
    gradients = []
    for part in range(c.parts):
        at = 4 * D * part
        one = Gradient(
            taps=None if dtaps is None else dtaps.data_ptr() + at * J,
            bias=None if dbias is None else dbias.data_ptr() + at,
        )
        if dz is not None:
            one.batch_stride, one.channel_stride, _ = dz.stride()
            one.data = dz.data_ptr() + part * D * one.channel_stride * dz.element_size()
        gradients.append(one)
    value = gradients.pop()
    post, pre = gradients or (Gradient(), Gradient())
    return ConvGradients(value, pre, post, _pointer(dk), _pointer(dskip))


def _short(c: Convolution, y: Tensor) -> tuple[Short, Any]:
    z, taps, bias = _rows_contiguous(c.z), _solid(c.taps), _solid(c.bias)
    assert taps is not None
    B, D, L = z.shape
    count, rows = B, _every_row(B, L)
    if c.segments is not None:
        count, rows = c.segments.once(_every_document)
    x = Input(z.data_ptr(), z.stride(0), z.stride(1), taps.data_ptr(), _pointer(bias))
    short = Short(
        *(D, count, rows, DTYPES[z.dtype], taps.shape[1], c.short_lead, x),
        *(y.data_ptr(), y.stride(0), y.stride(1)),
    )
    return short, (z, taps, bias)


def _groups(segments: Segments, isa: str) -> list[tuple[int, int, Any]]:
    """(size of the transform, number of rows, rows) of each call: those of one size go together."""
    bounds = segments.bounds
    found, which = bounds[:, 2].unique(return_inverse=True)
    sizes = torch.tensor([_size(isa, length) for length in found.tolist()])[which]
    return [(n, *_rows(bounds[sizes == n])) for n in sizes.unique().tolist()]


def _every_document(segments: Segments) -> tuple[int, Any]:
    return _rows(segments.bounds)


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
    size = _loaded().size(length)
    if size == -1:
        raise ValueError(f"the native kernel has no transform for a row of {length} positions")
    _check(size < 0)
    return size


@lru_cache(maxsize=64)
def _spectrum_floats(isa: str, channels: int, n: int) -> int:
    return _loaded().spectrum_floats(channels, n)


def _spectrum_values(c: Convolution, D: int, L: int) -> Tensor:
    """Those of a spectrum, if it is for such an input: the kernel would not notice."""
    isa, x = _loaded().isa, c.filter
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


def _loaded() -> Kernel:
    kernel = library.outcome.kernel
    if kernel is None:
        raise RuntimeError(f"the native kernel is not loaded: {library.why_not()}")
    return kernel


def _check(failed: int) -> None:
    if failed:
        raise MemoryError("the native kernel found no memory for its scratch space")


def _solid(x: Any) -> Any:
    """Contiguous, and its memory as its values say; or None."""
    return None if x is None else x.resolve_neg().contiguous()


def _rows_contiguous(x: Tensor) -> Tensor:
    """With neighbouring positions side by side, and its memory as its values say."""
    x = x.resolve_neg()
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def _like(x: Tensor | None, needed: bool) -> Tensor | None:
    if x is None or not needed:
        return None
    return torch.empty(x.shape, dtype=torch.float32, device="cpu")


def _pointer(x: Tensor | None) -> int | None:
    return None if x is None else x.data_ptr()
