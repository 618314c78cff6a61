"""The convolutions as PyTorch sees them: a registered op with its gradient.

``torch.ops.hyena.conv`` is what `torch.compile` and `torch.export` record, for any batch, length
and documents. It checks what it is given, and where the kernel is not loaded or does not apply it
computes the same by PyTorch's ops. A registered op costs some 60 µs a call, so eager code goes
around the dispatcher.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hyena.ops import _torch
from hyena.ops._convolution import Convolution
from hyena.ops.arguments import FLOATS
from hyena.ops.native import _call, library
from hyena.ops.native._abi import DTYPES, MOST_DIRECT_TAPS, MOST_SHORT_TAPS
from hyena.ops.observed import alive, applied, observer, own_of
from hyena.ops.segments import Segments


def recorded(c: Convolution, native: bool) -> Tensor:
    """y through the registered op, by the kernel if that is wanted, there and takes it."""
    y: Tensor = torch.ops.hyena.conv(*_arguments(c), native)
    return y


def _arguments(c: Convolution) -> tuple[Any, ...]:
    """Those that both ops have in common, in their order."""
    return *c[:9], None if c.segments is None else c.segments.ids


def differentiable(c: Convolution) -> Tensor:
    """y by the kernel, in eager code that records a gradient."""
    tensors: list[Any] = []
    for x in (c.z, c.filter, c.skip, c.taps, c.bias):
        tensors.append(x if x is None else alive(x))
    y: Tensor = _apply(*tensors, c)
    return y


# The ops. A tensor that is not wanted comes back empty, since an op's outputs are all tensors.

_ARGUMENTS = (
    "Tensor z, SymInt parts, Tensor? filter, SymInt n, Tensor? skip, Tensor? taps, Tensor? bias, "
    "SymInt lead, SymInt short_lead, Tensor? ids, bool native"
)


@torch.library.custom_op("hyena::conv", mutates_args=(), schema=f"({_ARGUMENTS}=True) -> Tensor")
def _conv(*arguments: Any) -> Tensor:
    c, native = _checked("hyena::conv", *arguments)
    return _call.forward(c) if native else _torch.forward(c).contiguous()


@_conv.register_fake
def _(z: Tensor, parts: int, *rest: Any) -> Tensor:
    return z.new_empty((z.shape[0], z.shape[1] // parts, z.shape[2]))


@torch.library.custom_op(
    "hyena::conv_backward",
    mutates_args=(),
    schema=f"(Tensor dy, {_ARGUMENTS}, bool[] need) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def _conv_backward(dy: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
    op, need = "hyena::conv_backward", arguments[-1]
    c, native = _checked(op, *arguments[:-1])
    z, shape = c.z, (c.z.shape[0], c.z.shape[1] // c.parts, c.z.shape[2])
    if dy.shape != shape or dy.dtype != z.dtype or dy.device != z.device:
        raise ValueError(
            f"{op}: expected dy {shape} of {z.dtype} on {z.device}, got {tuple(dy.shape)} of "
            f"{dy.dtype} on {dy.device}"
        )
    if len(need) != 5:
        raise ValueError(f"{op}: expected need to be 5 truth values, got {len(need)}")
    if c.n and need[1]:
        raise ValueError(f"{op}: a spectrum has no gradient; pass the filter and n = 0 instead")
    found = (_call if native else _torch).backward(dy, c, need)
    empty = torch.empty(0, dtype=torch.float32, device=z.device)
    return tuple(empty.clone() if x is None else x for x in found)


@_conv_backward.register_fake
def _(dy: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
    z, _, filter, _, skip, taps, bias, *_, need = arguments

    def like(x: Tensor | None, needed: bool) -> Tensor:  # contiguous, whatever the strides of x
        if x is None or not needed:
            return z.new_empty(0, dtype=torch.float32)
        return x.new_empty(x.shape)

    return tuple(map(like, (z, filter, skip, taps, bias), need))


def _takes(c: Convolution, native: bool) -> bool:
    """Whether the kernel computes it."""
    if library.kernel() is None:
        if c.n:
            raise RuntimeError(
                "a FilterSpectrum of the native kernel came to hyena::conv, but the kernel is not "
                f"loaded: {library.why_not()}. Record the program with the filter k"
            )
        return False
    if c.n:
        return True
    if not (native and c.z.is_cpu and c.z.dtype in DTYPES):
        return False
    if c.filter is None and c.taps is not None and c.taps.shape[1] > MOST_DIRECT_TAPS:
        return False
    for x in (c.filter, c.skip, c.taps, c.bias):
        if x is not None and x.dtype is not torch.float32:
            return False
    return True


def _checked(
    op: str,
    z: Tensor,
    parts: int,
    filter: Tensor | None,
    n: int,
    skip: Tensor | None,
    taps: Tensor | None,
    bias: Tensor | None,
    lead: int,
    short_lead: int,
    ids: Tensor | None,
    native: bool = True,
) -> tuple[Convolution, bool]:
    """The convolution, and whether the kernel computes it: anyone can call a registered op, and
    the kernel believes its arguments.

    Raises: ValueError on shapes, dtypes, devices or numbers that do not fit together.
    """
    if parts not in (1, 3):
        raise ValueError(f"{op}: expected parts = 1 or 3, got {parts}")
    if z.dim() != 3 or z.shape[1] % parts or z.dtype not in FLOATS:
        sizes = "(B, D, L)" if parts == 1 else f"(B, {parts}·D, L)"
        raise ValueError(
            f"{op}: expected floating point z {sizes}, got {tuple(z.shape)} of {z.dtype}"
        )
    B, channels, L = z.shape
    D = channels // parts
    if n and (skip is not None or ids is not None):
        raise ValueError(
            f"{op}: a spectrum (n = {n}) holds its skip already and knows one length only, but "
            "skip or ids came with it; pass the filter and n = 0 instead"
        )
    if filter is None and (taps is None or parts != 1 or skip is not None):
        raise ValueError(f"{op}: without a filter, expected taps, parts = 1 and no skip")
    if taps is None and bias is not None:
        raise ValueError(f"{op}: bias is that of the short convolution, but taps are None")
    if ids is not None and (ids.shape != (B, L) or ids.is_floating_point() or ids.is_complex()):
        raise ValueError(
            f"{op}: expected integer ids (B, L) = ({B}, {L}), got {tuple(ids.shape)} of {ids.dtype}"
        )
    for name, x, rows, ahead in (("filter", filter, D, lead), ("taps", taps, channels, short_lead)):
        if x is None or (n and name == "filter"):
            continue
        if x.dim() != 2 or x.shape[0] != rows or x.shape[1] < 1:
            raise ValueError(f"{op}: expected {name} ({rows}, ≥ 1), got {tuple(x.shape)}")
        if ahead != 0 and 2 * ahead + 1 != x.shape[1]:
            raise ValueError(
                f"{op}: expected a lead of 0, or half of an odd number of taps, in {name}, got "
                f"{ahead} of {x.shape[1]} taps"
            )
    if filter is not None and taps is not None and taps.shape[1] > MOST_SHORT_TAPS:
        raise ValueError(
            f"{op}: expected at most {MOST_SHORT_TAPS} taps in the short convolution, got "
            f"{taps.shape[1]}; hyena.ops.short_conv takes more"
        )
    for name, x, size in (("skip", skip, D), ("bias", bias, channels)):
        if x is not None and x.shape != (size,):
            raise ValueError(f"{op}: expected {name} ({size},), got {tuple(x.shape)}")
    for name, x in (("filter", filter), ("skip", skip), ("taps", taps), ("bias", bias)):
        if x is not None and (x.dtype not in FLOATS or x.device != z.device):
            raise ValueError(
                f"{op}: expected floating point {name} on {z.device}, got {x.dtype} on {x.device}"
            )
    segments = None if ids is None else Segments(ids)
    if segments is not None and segments.trivial:
        segments = None
    layout = "native" * (n > 0)
    c = Convolution(
        z, parts, filter, n, skip, taps, bias, lead, short_lead, segments, layout=layout
    )
    return c, _takes(c, native)


# Gradients, shared by the op and by eager code. A function whose context is set up apart, as an op
# has it, costs eager code 25 µs more a call.


class _Conv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        *tensors, c = inputs
        y = _call.forward(c)
        ctx.save_for_backward(*tensors)
        # Not c, which would keep the tensors beyond their use.
        ctx.rest = c.parts, c.n, c.lead, c.short_lead, c.segments, True
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
        return *_gradients(ctx, dy, ctx.needs_input_grad[:5]), None


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    z, parts, filter, n, skip, taps, bias, lead, short_lead, ids, native = inputs
    ctx.save_for_backward(z, filter, skip, taps, bias)
    ctx.rest = parts, n, lead, short_lead, None if ids is None else Segments(ids), native


def _of_op(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
    need = [ctx.needs_input_grad[i] for i in (0, 2, 4, 5, 6)]
    dz, dk, dskip, dtaps, dbias = _gradients(ctx, dy, need)
    return dz, None, dk, None, dskip, dtaps, dbias, None, None, None, None


_apply: Any = applied(_Conv)
_conv.register_autograd(_of_op, setup_context=_keep)


def _gradients(ctx: Any, dy: Tensor, need: Sequence[bool]) -> Sequence[Tensor | None]:
    z, filter, skip, taps, bias = ctx.saved_tensors
    parts, n, lead, short_lead, segments, native = ctx.rest
    if n and need[1]:
        raise RuntimeError("a FilterSpectrum has no gradient; pass the filter k itself")
    c = Convolution(z, parts, filter, n, skip, taps, bias, lead, short_lead, segments)
    if torch.is_grad_enabled():
        return _differentiable(dy, c, need)
    if observer((dy, z)) not in ("nobody", "autograd"):
        found = torch.ops.hyena.conv_backward(dy, *_arguments(c), native, need)
        return [x if n else None for x, n in zip(found, need, strict=True)]
    return (_call if _takes(c, native) else _torch).backward(dy, c, need)


def _differentiable(dy: Tensor, c: Convolution, need: Sequence[bool]) -> list[Tensor | None]:
    """Gradients that have gradients go through PyTorch's own ops."""
    if c.n:
        c = _with_taps(c)
    with torch.enable_grad():
        z, filter, skip, taps, bias = own_of(c.tensors)
        assert z is not None
        y = _torch.forward(c._replace(z=z, filter=filter, skip=skip, taps=taps, bias=bias))
    tensors = z, filter, skip, taps, bias
    chosen = [x for x, n in zip(tensors, need, strict=True) if x is not None and n]
    found = iter(torch.autograd.grad(y, chosen, dy, create_graph=True))
    return [
        next(found) if x is not None and n else None for x, n in zip(tensors, need, strict=True)
    ]


def _with_taps(c: Convolution) -> Convolution:
    """With the filter in place of its spectrum: what it makes of a one at the first position, and
    the taps of negative lag of one at the last."""
    assert c.filter is not None
    D, L = c.z.shape[1] // c.parts, c.z.shape[2]
    ones = c.z.new_zeros(2, D, L, dtype=torch.float32)
    ones[0, :, 0] = ones[1, :, -1] = 1
    with torch.no_grad():
        one = Convolution(ones, 1, c.filter, c.n, None, None, None, c.lead, 0)
        after, before = torch.ops.hyena.conv(*one[:9], None)
    if c.lead == 0:
        return c._replace(filter=after, n=0)
    return c._replace(filter=torch.cat([before[:, :-1], after], dim=1), n=0, lead=L - 1)
