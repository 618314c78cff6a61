"""What the native convolutions compute, by PyTorch's ops: where the kernel is not loaded, as when a
program that was exported with it runs elsewhere, and for gradients of gradients."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from hyena.ops.native import library
from hyena.ops.native.calls import Arguments, Gradients, Spans
from hyena.ops.segments import Segments


def forward(z: Tensor, a: Arguments) -> Tensor:
    """y (B, D, L) of z (B, P·D, L), contiguous. Raises: RuntimeError on a spectrum."""
    from hyena.ops.long import long_conv

    if a.n:
        raise RuntimeError(
            "a FilterSpectrum of the native kernel came to hyena::conv, but the kernel is not "
            f"loaded: {library.why_not()}. Record the program with the filter k"
        )
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
    """Gradients of sum(dy · y), those that are needed."""

    def y(z: Any, filter: Any, skip: Any, taps: Any, bias: Any) -> Tensor:
        return forward(z, a._replace(filter=filter, skip=skip, taps=taps, bias=bias))

    return Gradients(*_gradients(y, (z, a.filter, a.skip, a.taps, a.bias), dy, need))


def short_forward(u: Tensor, taps: Tensor, bias: Tensor | None, lead: int, spans: Spans) -> Tensor:
    """Short convolution of u (B, D, L) with taps (D, J), contiguous."""
    from hyena.ops.short import short_conv

    segments = _segments(spans, u)
    return short_conv(
        u, taps, bias, causal=not lead, segments=segments, backend="torch"
    ).contiguous()


def short_backward(
    dy: Tensor, u: Tensor, taps: Tensor, bias: Tensor | None, lead: int, spans: Spans,
    need: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # fmt: skip
    """Gradients of u, taps and bias, those that are needed."""

    def y(u: Any, taps: Any, bias: Any) -> Tensor:
        return short_forward(u, taps, bias, lead, spans)

    du, dtaps, dbias = _gradients(y, (u, taps, bias), dy, need)
    return du, dtaps, dbias


def _gradients(
    f: Callable[..., Tensor], inputs: tuple[Tensor | None, ...], dy: Tensor, need: Sequence[bool]
) -> list[Tensor | None]:
    chosen = {i: x for i, x in enumerate(inputs) if x is not None and need[i]}

    def of(*given: Tensor) -> Tensor:
        replaced = dict(zip(chosen, given, strict=True))
        return f(*[replaced.get(i, x) for i, x in enumerate(inputs)])

    # Not autograd.grad: autograd is off inside a registered op.
    pull = torch.func.vjp(of, *chosen.values())[1] if chosen else None
    found = {} if pull is None else dict(zip(chosen, pull(dy), strict=True))
    return [found[i].contiguous() if i in found else None for i in range(len(inputs))]


def _segments(spans: Spans, z: Tensor) -> Segments | None:
    if spans is None:
        return None
    change = torch.zeros(z.shape[0], z.shape[2], dtype=torch.int64, device=z.device)
    change[list(spans[::3]), list(spans[1::3])] = 1
    return Segments.from_document_ids(change.cumsum(1))
