"""The convolutions by PyTorch's own ops, on any device, and their gradients written out.

Where the kernel is not loaded or does not apply, in registered ops, which have no autograd inside,
and for gradients of gradients.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from hyena.ops import fft
from hyena.ops._convolution import Convolution
from hyena.ops._documents import documents_of
from hyena.ops._filter import crop, fold_skip
from hyena.ops._shifted_sum import ShiftedSum, tap_gradient
from hyena.ops.observed import differentiated

Gradients = tuple[Tensor | None, ...]
"""Of input, filter, skip, taps and bias; None where not wanted."""


def forward(c: Convolution) -> Tensor:
    """y (B, D, L), dtype of z."""
    if c.z.numel() == 0:
        return _of_nothing(c)
    if c.filter is None:
        return _short(c)
    post, u = _gated(_short(c), c.parts)
    y = _long(u, c)
    return y if post is None else post * y


def backward(dy: Tensor, c: Convolution, need: Sequence[bool]) -> Gradients:
    """Gradients of sum(dy · y), contiguous; only with a filter, not with its spectrum."""
    if c.z.numel() == 0:
        found = [None if x is None else x.new_zeros(x.shape) for x in c.tensors]
        return tuple(x if n else None for x, n in zip(found, need, strict=True))
    dz, dk, dskip = dy, None, None
    if c.filter is not None:
        post, u = _gated(x := _short(c), c.parts)
        du, dk, dskip = _long_backward(dy if post is None else dy * post, u, c)
        dz = du
        if post is not None:
            _, pre, value = x.chunk(3, dim=1)
            dz = torch.cat([dy * _long(u, c), du * value, du * pre], dim=1)
    dtaps = dbias = None
    if c.taps is not None:
        dz, dtaps, dbias = _short_backward(dz, c)
    found = [dz, dk, dskip, dtaps, dbias]
    return tuple(
        x.contiguous() if n and x is not None else None for x, n in zip(found, need, strict=True)
    )


def _of_nothing(c: Convolution) -> Tensor:
    """y of no row or no position. It depends on the filters, whose gradients are zero and not
    missing: processes that add up gradients wait for each other's."""
    y = c.z[:, : c.z.shape[1] // c.parts].clone()
    for x in (None if c.n else c.filter, c.skip, c.taps, c.bias):
        if x is not None:
            y = y * x.sum()
    return y


def _gated(x: Tensor, parts: int) -> tuple[Tensor | None, Tensor]:
    """The gate after the long convolution, if there is one, and its input."""
    if parts == 1:
        return None, x
    post, pre, value = x.chunk(3, dim=1)
    return post, pre * value


def _ids(c: Convolution) -> Tensor | None:
    return None if c.segments is None else c.segments.ids


def _lags(c: Convolution) -> tuple[int, ...]:
    assert c.taps is not None
    return tuple(range(-c.short_lead, c.taps.shape[1] - c.short_lead))


def _short(c: Convolution) -> Tensor:
    if c.taps is None:
        return c.z
    y: Tensor = differentiated(ShiftedSum, c.z, c.taps, _ids(c), _lags(c))
    return y if c.bias is None else y + c.bias[:, None].to(y.dtype)


def _short_backward(dy: Tensor, c: Convolution) -> tuple[Tensor, Tensor, Tensor | None]:
    assert c.taps is not None
    lags = _lags(c)
    dz: Tensor = ShiftedSum.apply(dy, c.taps, _ids(c), tuple(-lag for lag in lags))
    dtaps = tap_gradient(dy, c.z, _ids(c), lags, c.taps.dtype)
    return dz, dtaps, None if c.bias is None else dy.sum((0, 2), dtype=c.bias.dtype)


def _long(u: Tensor, c: Convolution) -> Tensor:
    assert c.filter is not None
    if c.n:
        return fft.multiply_spectrum(u, c.filter, c.n)
    k = fold_skip(c.filter, c.skip, c.lead, u.dtype)
    if c.segments is None:
        return fft.convolve(u, k, c.lead)
    documents = documents_of(c.segments)
    x = documents.gathered(u)
    return documents.put_back(
        [fft.convolve(b.rows(x), *crop(k, c.lead, b.longest)) for b in documents]
    )


def _long_backward(dy: Tensor, u: Tensor, c: Convolution) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of u, the filter and the skip."""
    k = c.filter
    assert k is not None
    du: Tensor | None
    dk: Tensor | None
    if c.segments is None:
        du, dk = fft.adjoint(dy, u, k, c.lead, True, True)
    else:
        documents = documents_of(c.segments)
        dy_flat, u_flat, parts = documents.gathered(dy), documents.gathered(u), []
        dk = k.new_zeros(k.shape)
        for b in documents:
            taps, lead = crop(k, c.lead, b.longest)
            part, more = fft.adjoint(b.rows(dy_flat), b.rows(u_flat), taps, lead, True, True)
            first = c.lead - lead
            assert part is not None
            assert more is not None
            dk[:, first : first + taps.shape[1]] += more
            parts.append(part)
        du = documents.put_back(parts)
    assert du is not None
    assert dk is not None
    if c.skip is None:
        return du, dk, None
    wide = torch.promote_types(u.dtype, torch.float32)
    dskip = (dy.to(wide) * u).sum((0, 2)).to(c.skip.dtype)
    return du + (c.skip[:, None] * dy).to(du.dtype), dk, dskip
