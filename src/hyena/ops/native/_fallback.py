"""What the native convolutions compute, by PyTorch's ops: where the kernel is not loaded, as when a
program that was exported with it runs elsewhere, and for gradients of gradients."""

from collections.abc import Sequence

import torch
from torch import Tensor

from hyena.ops import fft
from hyena.ops._shifted_sum import ShiftedSum, tap_gradient
from hyena.ops.native import library
from hyena.ops.native._call import Arguments, Gradients, Spans
from hyena.ops.segments import Segments


def forward(z: Tensor, a: Arguments) -> Tensor:
    """y (B, D, L) of z (B, P·D, L), contiguous. Raises: RuntimeError on a spectrum."""
    from hyena.ops.long import long_conv

    _check(a)
    segments = _segments(a.spans, z)
    if a.taps is not None:
        z = short_forward(z, a.taps, a.bias, a.short_lead, a.spans)
    post, value = None, z
    if a.parts == 3:
        post, pre, value = z.chunk(3, dim=1)
        value = pre * value
    y = long_conv(value, a.filter, a.skip, causal=not a.lead, segments=segments, backend="torch")
    return (y if post is None else post * y).contiguous()


def backward(dy: Tensor, z: Tensor, a: Arguments, need: Sequence[bool]) -> Gradients:
    """Gradients of sum(dy · y), those that are needed. Raises: RuntimeError on a spectrum.

    Written out, since there is no autograd inside a registered op.
    """
    _check(a)
    if z.numel() == 0:
        inputs = (z, a.filter, a.skip, a.taps, a.bias)
        return Gradients(*_needed([x if x is None else x.new_zeros(x.shape) for x in inputs], need))
    x = z if a.taps is None else short_forward(z, a.taps, a.bias, a.short_lead, a.spans)
    if a.parts == 1:
        dx, dk, dskip = _adjoint(dy, x, a)
    else:
        post, pre, value = x.chunk(3, dim=1)
        y = forward(pre * value, a._replace(parts=1, taps=None, bias=None))
        du, dk, dskip = _adjoint(dy * post, pre * value, a)
        dx = torch.cat([dy * y, du * value, du * pre], dim=1)
    short: Sequence[Tensor | None] = dx, None, None
    if a.taps is not None:
        wanted = [need[0], need[3], need[4]]
        short = short_backward(dx, z, a.taps, a.bias, a.short_lead, a.spans, wanted)
    return Gradients(*_needed([short[0], dk, dskip, *short[1:]], need))


def _adjoint(dy: Tensor, u: Tensor, a: Arguments) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of the long convolution of u (B, D, L), document by document."""
    du, dk = u.new_empty(u.shape), a.filter.new_zeros(a.filter.shape)
    documents = [(slice(None), 0, u.shape[2])]
    if a.spans is not None:
        triples = zip(a.spans[::3], a.spans[1::3], a.spans[2::3], strict=True)
        documents = [(slice(row, row + 1), start, stop) for row, start, stop in triples]
    for rows, start, stop in documents:
        length = stop - start
        first = max(a.lead - (length - 1), 0)
        taps = slice(first, a.lead + length)  # those that reach from one position to another
        here = (rows, slice(None), slice(start, stop))
        found = fft.adjoint(dy[here], u[here], a.filter[:, taps], a.lead - first, True, True)
        assert found[0] is not None
        assert found[1] is not None
        du[here] = found[0]
        dk[:, taps] += found[1]
    if a.skip is None:
        return du, dk, None
    du += a.skip[:, None] * dy
    return du, dk, (dy.to(torch.float32) * u).sum((0, 2))


def short_forward(u: Tensor, taps: Tensor, bias: Tensor | None, lead: int, spans: Spans) -> Tensor:
    """Short convolution of u (B, D, L) with taps (D, J), contiguous."""
    from hyena.ops.short import short_conv

    segments = _segments(spans, u)
    y = short_conv(u, taps, bias, causal=not lead, segments=segments, backend="torch")
    return y.contiguous()


def short_backward(
    dy: Tensor, u: Tensor, taps: Tensor, bias: Tensor | None, lead: int, spans: Spans,
    need: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # fmt: skip
    """Gradients of u, taps and bias, those that are needed."""
    if u.numel() == 0:
        found = [None if x is None else x.new_zeros(x.shape) for x in (u, taps, bias)]
    else:
        segments = _segments(spans, u)
        ids = None if segments is None else segments.ids
        lags = tuple(range(-lead, taps.shape[1] - lead))
        back: Tensor = ShiftedSum.apply(dy, taps, ids, tuple(-lag for lag in lags))
        dbias = None if bias is None else dy.sum((0, 2), dtype=bias.dtype)
        found = [back.contiguous(), tap_gradient(dy, u, ids, lags, taps.dtype), dbias]
    du, dtaps, dbias = _needed(found, need)
    return du, dtaps, dbias


def _check(a: Arguments) -> None:
    if a.n:
        raise RuntimeError(
            "a FilterSpectrum of the native kernel came to hyena::conv, but the kernel is not "
            f"loaded: {library.why_not()}. Record the program with the filter k"
        )


def _needed(found: Sequence[Tensor | None], need: Sequence[bool]) -> list[Tensor | None]:
    return [x if n else None for x, n in zip(found, need, strict=True)]


def _segments(spans: Spans, z: Tensor) -> Segments | None:
    if spans is None:
        return None
    change = torch.zeros(z.shape[0], z.shape[2], dtype=torch.int64, device=z.device)
    change[list(spans[::3]), list(spans[1::3])] = 1
    return Segments.from_document_ids(change.cumsum(1))
