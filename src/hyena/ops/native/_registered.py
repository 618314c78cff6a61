"""The native convolutions as PyTorch sees them: registered ops with gradients.

``torch.ops.hyena.conv`` and ``torch.ops.hyena.short_conv`` are what `torch.compile` and
`torch.export` record. They check what they are given, and where the kernel is not loaded they
compute the same by PyTorch's ops. A registered op costs some 60 µs a call, so eager code goes
around the dispatcher.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hyena.ops.native import _call, _fallback, library
from hyena.ops.native._call import Arguments, Gradients
from hyena.ops.native._contract import check_conv, check_gradient, check_short
from hyena.ops.observed import differentiated, recorded


def conv(
    z: Tensor,
    parts: int,
    filter: Tensor,
    n: int,
    skip: Tensor | None,
    taps: Tensor | None,
    bias: Tensor | None,
    lead: int,
    short_lead: int,
    spans: list[int] | None,
    out: Tensor | None = None,
    offset: Tensor | None = None,
) -> Tensor:
    """The gated convolution of z (B, P·D, L); see `hyena.ops.native._call`."""
    values = (parts, filter, n, skip, taps, bias, lead, short_lead, spans)
    given = (z, filter, skip, taps, bias, offset)
    if not recorded(given) and not differentiated(given):
        return _call.forward(z, Arguments(*values, offset), out)
    if offset is not None:
        z = z + offset[:, None].to(z.dtype)
    if recorded(given):
        y: Tensor = torch.ops.hyena.conv(z, *values)
        return y if out is None else out.copy_(y)
    y = _Conv.apply(z, *values)
    return y


def short_conv(
    u: Tensor, taps: Tensor, bias: Tensor | None, lead: int, spans: list[int] | None
) -> Tensor:
    """The short convolution of u (B, D, L)."""
    given = (u, taps, bias)
    if recorded(given):
        y: Tensor = torch.ops.hyena.short_conv(u, taps, bias, lead, spans)
        return y
    if differentiated(given):
        y = _ShortConv.apply(u, taps, bias, lead, spans)
        return y
    return _call.short_forward(u, taps, bias, lead, spans)


# The ops. A tensor that is not wanted comes back empty, since an op's outputs are all tensors.


@torch.library.custom_op("hyena::conv", mutates_args=())
def _conv_op(
    z: Tensor,
    parts: int,
    filter: Tensor,
    n: int,
    skip: Tensor | None,
    taps: Tensor | None,
    bias: Tensor | None,
    lead: int,
    short_lead: int,
    spans: Sequence[int] | None,
) -> Tensor:
    a = Arguments(parts, filter, n, skip, taps, bias, lead, short_lead, spans)
    check_conv("hyena::conv", z, a)
    return _fallback.forward(z, a) if library.kernel() is None else _call.forward(z, a)


@_conv_op.register_fake
def _(z: Tensor, parts: int, *rest: Any) -> Tensor:
    return z.new_empty((z.shape[0], z.shape[1] // parts, z.shape[2]))


@torch.library.custom_op("hyena::conv_backward", mutates_args=())
def _conv_backward_op(
    dy: Tensor,
    z: Tensor,
    parts: int,
    filter: Tensor,
    n: int,
    skip: Tensor | None,
    taps: Tensor | None,
    bias: Tensor | None,
    lead: int,
    short_lead: int,
    spans: Sequence[int] | None,
    need: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    a = Arguments(parts, filter, n, skip, taps, bias, lead, short_lead, spans)
    check_conv("hyena::conv_backward", z, a)
    check_gradient("hyena::conv_backward", dy, z, parts, need, 5)
    if n and need[1]:
        raise ValueError(
            "hyena::conv_backward: a spectrum has no gradient; pass the filter and n = 0 instead"
        )
    dz, dk, dskip, dtaps, dbias = _backward(dy, z, a, need)
    return _there(dz), _there(dk), _there(dskip), _there(dtaps), _there(dbias)


@_conv_backward_op.register_fake
def _(
    dy: Tensor,
    z: Tensor,
    parts: int,
    filter: Tensor,
    n: int,
    skip: Tensor | None,
    taps: Tensor | None,
    bias: Tensor | None,
    lead: int,
    short_lead: int,
    spans: Sequence[int] | None,
    need: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    def like(x: Tensor | None, needed: bool) -> Tensor:
        return z.new_empty(0, dtype=torch.float32) if x is None or not needed else _fresh(x)

    dz, dk, dskip, dtaps, dbias = map(like, (z, filter, skip, taps, bias), need)
    return dz, dk, dskip, dtaps, dbias


@torch.library.custom_op("hyena::short_conv", mutates_args=())
def _short_op(
    u: Tensor, taps: Tensor, bias: Tensor | None, lead: int, spans: Sequence[int] | None
) -> Tensor:
    check_short("hyena::short_conv", u, taps, bias, lead, spans)
    native = library.kernel() is not None
    return (_call if native else _fallback).short_forward(u, taps, bias, lead, spans)


@_short_op.register_fake
def _(u: Tensor, *rest: Any) -> Tensor:
    return _fresh(u)


@torch.library.custom_op("hyena::short_conv_backward", mutates_args=())
def _short_backward_op(
    dy: Tensor,
    u: Tensor,
    taps: Tensor,
    bias: Tensor | None,
    lead: int,
    spans: Sequence[int] | None,
    need: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    check_short("hyena::short_conv_backward", u, taps, bias, lead, spans)
    check_gradient("hyena::short_conv_backward", dy, u, 1, need, 3)
    du, dtaps, dbias = _short_backward(dy, u, taps, bias, lead, spans, need)
    return _there(du), _there(dtaps), _there(dbias)


@_short_backward_op.register_fake
def _(
    dy: Tensor,
    u: Tensor,
    taps: Tensor,
    bias: Tensor | None,
    lead: int,
    spans: Sequence[int] | None,
    need: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    def like(x: Tensor | None, needed: bool) -> Tensor:
        return u.new_empty(0, dtype=torch.float32) if x is None or not needed else _fresh(x)

    du, dtaps, dbias = map(like, (u, taps, bias), need)
    return du, dtaps, dbias


def _backward(dy: Tensor, z: Tensor, a: Arguments, need: Sequence[bool]) -> Gradients:
    return (_fallback if library.kernel() is None else _call).backward(dy, z, a, need)


def _short_backward(dy: Tensor, u: Tensor, *rest: Any) -> tuple[Tensor | None, ...]:
    return (_fallback if library.kernel() is None else _call).short_backward(dy, u, *rest)


def _there(x: Tensor | None) -> Tensor:
    return torch.empty(0, dtype=torch.float32, device="cpu") if x is None else x


def _fresh(x: Tensor) -> Tensor:
    """Contiguous, as the kernel writes, whatever the strides of x."""
    return x.new_empty(x.shape)


# Gradients, shared by the ops and by eager code. A function whose context is set up apart, as an op
# has it, costs eager code 25 µs more a call.


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    z, parts, filter, n, skip, taps, bias, *rest = inputs
    ctx.save_for_backward(z, filter, skip, taps, bias)
    ctx.parts, ctx.n, ctx.rest = parts, n, rest


def _keep_short(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    u, taps, bias, ctx.lead, ctx.spans = inputs
    ctx.save_for_backward(u, taps, bias)


class _Conv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        z, *values = inputs
        y = _call.forward(z, Arguments(*values))
        _keep(ctx, inputs, y)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
        z, filter, skip, taps, bias = ctx.saved_tensors
        need = [ctx.needs_input_grad[i] for i in (0, 2, 4, 5, 6)]
        values = (ctx.parts, filter, ctx.n, skip, taps, bias, *ctx.rest)
        if ctx.n and need[1]:
            raise RuntimeError("a FilterSpectrum has no gradient; pass the filter k itself")
        found: Sequence[Tensor | None]
        if torch.is_grad_enabled():
            found = _differentiable(dy, z, values, need)
        elif recorded((dy, z)):
            found = torch.ops.hyena.conv_backward(dy, z, *values, need)
        else:
            found = _backward(dy, z, Arguments(*values), need)
        dz, dk, dskip, dtaps, dbias = (x if n else None for x, n in zip(found, need, strict=True))
        return dz, None, dk, None, dskip, dtaps, dbias, None, None, None


class _ShortConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        y = _call.short_forward(*inputs)
        _keep_short(ctx, inputs, y)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
        u, taps, bias = ctx.saved_tensors
        need = list(ctx.needs_input_grad[:3])
        found: Sequence[Tensor | None]
        if torch.is_grad_enabled():
            found = _differentiable_short(dy, u, taps, bias, ctx.lead, ctx.spans, need)
        elif recorded((dy, u)):
            found = torch.ops.hyena.short_conv_backward(
                dy, u, taps, bias, ctx.lead, ctx.spans, need
            )
        else:
            found = _short_backward(dy, u, taps, bias, ctx.lead, ctx.spans, need)
        du, dtaps, dbias = (x if n else None for x, n in zip(found, need, strict=True))
        return du, dtaps, dbias, None, None


_conv_op.register_autograd(_Conv.backward, setup_context=_keep)
_short_op.register_autograd(_ShortConv.backward, setup_context=_keep_short)


# Gradients of gradients go through PyTorch's own ops.


def _differentiable(
    dy: Tensor, z: Tensor, values: tuple[Any, ...], need: Sequence[bool]
) -> list[Tensor | None]:
    a = Arguments(*values)
    if a.n:
        a = _with_taps(a, z)
    with torch.enable_grad():
        y = _fallback.forward(z, a)
    return _wanted(y, dy, (z, a.filter, a.skip, a.taps, a.bias), need)


def _with_taps(a: Arguments, z: Tensor) -> Arguments:
    """With the filter in place of its spectrum: what it makes of a one at the first position, and
    the taps of negative lag of one at the last."""
    D, L = z.shape[1] // a.parts, z.shape[2]
    ones = z.new_zeros(2, D, L, dtype=torch.float32)
    ones[0, :, 0] = ones[1, :, -1] = 1
    with torch.no_grad():
        after, before = conv(ones, 1, a.filter, a.n, None, None, None, a.lead, 0, None)
    if a.lead == 0:
        return a._replace(filter=after, n=0)
    return a._replace(filter=torch.cat([before[:, :-1], after], dim=1), n=0, lead=L - 1)


def _differentiable_short(
    dy: Tensor,
    u: Tensor,
    taps: Tensor,
    bias: Tensor | None,
    lead: int,
    spans: list[int] | None,
    need: Sequence[bool],
) -> list[Tensor | None]:
    with torch.enable_grad():
        y = _fallback.short_forward(u, taps, bias, lead, spans)
    return _wanted(y, dy, (u, taps, bias), need)


def _wanted(
    y: Tensor, dy: Tensor, inputs: tuple[Tensor | None, ...], need: Sequence[bool]
) -> list[Tensor | None]:
    chosen = [x for x, n in zip(inputs, need, strict=True) if x is not None and n]
    found = iter(torch.autograd.grad(y, chosen, dy, create_graph=True))
    return [next(found) if x is not None and n else None for x, n in zip(inputs, need, strict=True)]
