"""Calls of the kernel on tensors: shapes and dtypes are settled, memory is made, C does the rest.

Sizes: B batch, D channels, L length, K taps, J taps of the short convolution, P parts of the input:
1 for the value alone, 3 for the gate after, the gate before and the value.
"""

import ctypes
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple, overload

import torch
from torch import Tensor

from hyena.ops.native import library
from hyena.ops.native._abi import DTYPES, Conv, ConvGradients, Gradient, Input, Row, Short
from hyena.ops.native.library import Kernel

Spans = Sequence[int] | None  # row, start, stop of each document, one after the other


class Arguments(NamedTuple):
    """What a convolution is made of, but for its input."""

    parts: int  # P
    filter: Tensor  # k (D, K) float32, or the spectrum that `spectrum` made
    n: int  # size of the transform if ``filter`` is a spectrum, else 0
    skip: Tensor | None  # (D,) float32; None with a spectrum, which holds it
    taps: Tensor | None  # (P·D, J) float32
    bias: Tensor | None  # (P·D,) float32
    lead: int  # long taps of negative lag
    short_lead: int  # and short ones
    spans: Spans
    offset: Tensor | None = None  # (P·D,) float32, added to z first; without a gradient


class Gradients(NamedTuple):
    """Gradients of the input and of the tensors in `Arguments`; None where not wanted."""

    z: Tensor | None
    filter: Tensor | None
    skip: Tensor | None
    taps: Tensor | None
    bias: Tensor | None


def transform_size(length: int) -> int:
    """The transform's size for rows of this length."""
    return _size(_loaded().isa, length)


def spectrum(k: Tensor, skip: Tensor | None, lead: int, length: int) -> Tensor:
    """Spectra of the filters k (D, K) for rows of up to ``length``, in the kernel's own order."""
    kernel = _loaded()
    conv = Conv(channels=k.shape[0], n=_size(kernel.isa, length))
    keep = _set_filter(conv, k, skip, lead)
    values = _new((kernel.spectrum_floats(k.shape[0], conv.n),))
    _check(kernel.spectrum(conv, values.data_ptr()))
    del keep
    return values


def forward(z: Tensor, a: Arguments, out: Tensor | None = None) -> Tensor:
    """y (B, D, L) of z (B, P·D, L)."""
    kernel = _loaded()
    z = _rows_contiguous(z)
    B, channels, L = z.shape
    y = out
    if y is None or y.stride(-1) != 1 or y.is_neg():
        y = _new((B, channels // a.parts, L), z.dtype)
    conv, keep = _conv(z, a)
    conv.y, conv.y_batch_stride, conv.y_channel_stride = y.data_ptr(), y.stride(0), y.stride(1)
    for n, rows in _groups(kernel.isa, B, L, a.n, a.spans):
        conv.n, conv.rows, conv.row = n, len(rows), rows
        _check(kernel.forward(conv))
    del keep
    if y is out:
        torch.autograd.graph.increment_version(out)  # so that autograd notices that it changed
        return out
    return y if out is None else out.copy_(y)


def backward(dy: Tensor, z: Tensor, a: Arguments, need: Sequence[bool]) -> Gradients:
    """Gradients of sum(dy · y), those that are needed."""
    kernel = _loaded()
    z, dy = _rows_contiguous(z), _rows_contiguous(dy)
    B, channels, L = z.shape
    D = channels // a.parts
    conv, keep = _conv(z, a)
    conv.y, conv.y_batch_stride, conv.y_channel_stride = dy.data_ptr(), dy.stride(0), dy.stride(1)
    dz = _new((B, channels, L), z.dtype) if need[0] else None
    total: Gradients | None = None
    for n, rows in _groups(kernel.isa, B, L, a.n, a.spans):
        conv.n, conv.rows, conv.row = n, len(rows), rows
        sums = Gradients(
            dz,
            _like(a.filter, need[1]),
            _like(a.skip, need[2]),
            _like(a.taps, need[3]),
            _like(a.bias, need[4]),
        )
        to = ConvGradients()
        for name, part in _parts(a.parts):
            gradient: Gradient = getattr(to, name)
            if dz is not None:
                gradient.data = dz.data_ptr() + part * D * dz.stride(1) * dz.element_size()
                gradient.batch_stride, gradient.channel_stride = dz.stride(0), dz.stride(1)
            gradient.taps = _part_pointer(sums.taps, part, D)
            gradient.bias = _part_pointer(sums.bias, part, D)
        to.k, to.skip = _pointer(sums.filter), _pointer(sums.skip)
        _check(kernel.backward(conv, to))
        total = sums if total is None else _add(total, sums)
    del keep
    assert total is not None
    return total


def short_forward(u: Tensor, taps: Tensor, bias: Tensor | None, lead: int, spans: Spans) -> Tensor:
    """Short convolution of u (B, D, L) with taps (D, J)."""
    kernel = _loaded()
    u = _rows_contiguous(u)
    y = _new(u.shape, u.dtype)
    short, keep = _short(u, taps, bias, lead, spans, y)
    _check(kernel.short_forward(short))
    del keep
    return y


def short_backward(
    dy: Tensor, u: Tensor, taps: Tensor, bias: Tensor | None, lead: int, spans: Spans,
    need: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # fmt: skip
    """Gradients of u, taps and bias, those that are needed."""
    kernel = _loaded()
    u, dy = _rows_contiguous(u), _rows_contiguous(dy)
    short, keep = _short(u, taps, bias, lead, spans, dy)
    du = _new(u.shape, u.dtype) if need[0] else None
    dtaps, dbias = _like(taps, need[1]), _like(bias, need[2])
    gradient = Gradient(
        _pointer(du), u.shape[1] * u.shape[2], u.shape[2], _pointer(dtaps), _pointer(dbias)
    )
    _check(kernel.short_backward(short, gradient))
    del keep
    return du, dtaps, dbias


def _conv(z: Tensor, a: Arguments) -> tuple[Conv, Any]:
    """The struct without its rows and output, and what its pointers need kept alive."""
    D = z.shape[1] // a.parts
    conv = Conv(channels=D, dtype=DTYPES[z.dtype])
    taps, bias, offset = _solid(a.taps), _solid(a.bias), _solid(a.offset)
    if taps is not None:
        conv.short_taps, conv.short_lead = taps.shape[1], a.short_lead
    size = z.element_size()
    for name, part in _parts(a.parts):
        input: Input = getattr(conv, name)
        input.data = z.data_ptr() + part * D * z.stride(1) * size
        input.batch_stride, input.channel_stride = z.stride(0), z.stride(1)
        input.taps, input.bias = _part_pointer(taps, part, D), _part_pointer(bias, part, D)
        input.offset = _part_pointer(offset, part, D)
    if a.n:
        values = _spectrum_values(a, D, z.shape[2])
        conv.spectrum, conv.lead = values.data_ptr(), a.lead
        return conv, (z, taps, bias, offset, values)
    return conv, (z, taps, bias, offset, _set_filter(conv, a.filter, a.skip, a.lead))


def _set_filter(conv: Conv, k: Tensor, skip: Tensor | None, lead: int) -> Any:
    k, skip = _rows_contiguous(k), _solid(skip)
    conv.k, conv.k_stride, conv.taps, conv.lead = k.data_ptr(), k.stride(0), k.shape[1], lead
    conv.skip = _pointer(skip)
    return k, skip


def _short(
    u: Tensor, taps: Tensor, bias: Tensor | None, lead: int, spans: Spans, y: Tensor
) -> tuple[Short, Any]:
    B, D, L = u.shape
    taps, bias = _solid(taps), _solid(bias)
    rows = _every_row(B, L) if spans is None else _rows(spans)
    short = Short(
        channels=D, rows=len(rows), row=rows, dtype=DTYPES[u.dtype], short_taps=taps.shape[1],
        short_lead=lead, y=y.data_ptr(), y_batch_stride=y.stride(0), y_channel_stride=y.stride(1),
    )  # fmt: skip
    short.x = Input(u.data_ptr(), u.stride(0), u.stride(1), taps.data_ptr(), _pointer(bias))
    return short, (u, taps, bias, rows)


def _parts(parts: int) -> tuple[tuple[str, int], ...]:
    """Names of the kernel's inputs, and which part of z each is."""
    return (("value", 0),) if parts == 1 else (("post", 0), ("pre", 1), ("value", 2))


def _groups(isa: str, B: int, L: int, n: int, spans: Spans) -> list[tuple[int, Any]]:
    """(size of the transform, rows) of each call: rows of one size go together."""
    if spans is None:
        return [(n or _size(isa, L), _every_row(B, L))]
    members: dict[int, list[int]] = {}
    for row, start, stop in zip(spans[::3], spans[1::3], spans[2::3], strict=True):
        members.setdefault(_size(isa, stop - start), []).extend((row, start, stop))
    return [(size, _rows(part)) for size, part in members.items()]


def _rows(spans: Sequence[int]) -> Any:
    triples = zip(spans[::3], spans[1::3], spans[2::3], strict=True)
    return (Row * (len(spans) // 3))(
        *[Row(row, start, stop - start) for row, start, stop in triples]
    )


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


def _spectrum_values(a: Arguments, D: int, L: int) -> Tensor:
    """Those of a spectrum, if it is for such an input: the kernel would not notice."""
    isa, x = _loaded().isa, a.filter
    n = _size(isa, L)
    floats = _spectrum_floats(isa, D, n)
    if a.n != n or x.numel() != floats or x.dtype != torch.float32:
        raise ValueError(
            f"a spectrum of the native kernel for {D} channels of length {L} is {floats} float32 "
            f"numbers of n = {n}, but got {x.numel()} of {x.dtype} of n = {a.n}; take it as "
            "filter_spectrum returned it"
        )
    return _solid(x)


def _loaded() -> Kernel:
    kernel = library.kernel()
    if kernel is None:
        raise RuntimeError(f"the native kernel is not loaded: {library.why_not()}")
    return kernel


def _check(failed: int) -> None:
    if failed:
        raise MemoryError("the native kernel found no memory for its scratch space")


@overload
def _solid(x: Tensor) -> Tensor: ...
@overload
def _solid(x: None) -> None: ...
@overload
def _solid(x: Tensor | None) -> Tensor | None: ...
def _solid(x: Tensor | None) -> Tensor | None:
    """Contiguous, and its memory as its values say."""
    return None if x is None else x.resolve_neg().contiguous()


def _rows_contiguous(x: Tensor) -> Tensor:
    """With neighbouring positions side by side, and its memory as its values say."""
    x = x.resolve_neg()
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def _like(x: Tensor | None, needed: bool) -> Tensor | None:
    return _new(x.shape) if x is not None and needed else None


def _new(shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
    """Contiguous, whatever PyTorch's default dtype and device are at the moment."""
    return torch.empty(shape, dtype=dtype, device="cpu")


def _pointer(x: Tensor | None) -> int | None:
    return None if x is None else x.data_ptr()


def _part_pointer(x: Tensor | None, part: int, D: int) -> int | None:
    """Of the rows of a part, in a contiguous (P·D,) or (P·D, J) of float32."""
    return (
        None if x is None else x.data_ptr() + part * D * x.stride(0) * ctypes.sizeof(ctypes.c_float)
    )


def _add(a: Gradients, b: Gradients) -> Gradients:
    for x, y in zip(a[1:], b[1:], strict=True):
        if x is not None and y is not None:
            x += y
    return a
