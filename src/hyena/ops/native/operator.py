"""All of a Hyena operator up to its output projection, where nobody looks on.

What the input projection makes, z, is workspace of the calling thread; its bias is added as the
kernel reads it; and the output takes the place of the value, which nobody else may come to see.

Sizes: B batch, L length, D width, N order.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from hyena.ops import _check
from hyena.ops._filter import FilterSpectrum
from hyena.ops.native import _call, library
from hyena.ops.native._abi import DTYPES, MOST_DIRECT_TAPS, MOST_SHORT_TAPS
from hyena.ops.observed import observer
from hyena.ops.segments import Segments

LARGEST_KEPT = 256 << 20  # bytes of a thread's workspace that stay between calls

_of_thread = threading.local()


def run(
    u: Tensor,
    projection: tuple[Tensor, Tensor],
    short: tuple[Tensor, Tensor],
    filters: Sequence[tuple[Tensor | FilterSpectrum, Tensor | None]],
    *,
    causal: bool = True,
    segments: Segments | None = None,
) -> Tensor | None:
    """The input of the output projection, (B, D, L), valid until the thread's next call.

    Args:
        u: (B, L, D), B · L · D ≥ 1.
        projection: weight ((N + 1)·D, D) and bias of the input projection.
        short: taps ((N + 1)·D, J) and bias of the short convolution.
        filters: filter (D, K) or its spectrum, and skip, of each long convolution, N − 1 of them.
        causal, segments: as in `hyena.ops.long_conv`.

    Returns: None where the kernel does not take it, or somebody looks on.
    Raises: as `hyena.ops.gated_conv` on what does not fit together.
    """
    weight, bias = projection
    if not takes(u, (weight, bias, *short), filters):
        return None
    return of_projected(
        in_workspace(u, weight), bias, short, filters, causal=causal, segments=segments
    )


def takes(
    u: Tensor,
    layers: Sequence[Tensor],
    filters: Sequence[tuple[Tensor | FilterSpectrum, Tensor | None]],
) -> bool:
    """Whether the kernel takes an operator of these, the taps (C, J) among its ``layers`` last but
    one, and nobody looks on."""
    kernel = library.outcome.kernel
    *_, taps, _ = layers
    fits = u.is_cpu and dtype_of_product(u) in DTYPES and taps.shape[1] <= MOST_SHORT_TAPS
    if kernel is None or not fits:
        return False
    beside = [*layers, *(skip for _, skip in filters)]
    for k, _ in filters:
        if isinstance(k, FilterSpectrum) and k.layout != kernel.isa:
            return False
        beside.append(k.values if isinstance(k, FilterSpectrum) else k)
    if observer((u, *beside)) != "nobody":
        return False
    return not any(x is not None and x.dtype == torch.float64 for x in beside)


def in_time_domain(taps: int, length: int) -> bool:
    """Whether the kernel sums filters of so many taps as they are in rows of this length, so that
    their spectrum would be of no use."""
    if library.outcome.kernel is None or taps > MOST_DIRECT_TAPS or length < 1:
        return False
    return 4 * taps <= length or 4 * taps <= _call.transform_size(length)  # which is no smaller


def of_projected(
    z: Tensor,
    bias: Tensor,
    short: tuple[Tensor, Tensor],
    filters: Sequence[tuple[Tensor | FilterSpectrum, Tensor | None]],
    *,
    causal: bool = True,
    segments: Segments | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """`run`, of what it `takes`, from z (B, (N + 1)·D, L), which lacks its bias and is written to;
    the result is in ``out`` if that is given, (B, D, L) with positions side by side."""
    k = filters[0][0]
    D = k.channels if isinstance(k, FilterSpectrum) else len(k)
    shift, taps, added = (x.to(torch.float32) for x in (bias, *short))
    options: dict[str, Any] = {"causal": causal, "segments": segments}
    first = (len(filters) - 1) * D  # of the gates x⁰, x¹, …, those not yet in use
    of_first = taps[first:], added[first:]
    c = _check.convolution("HyenaOperator", z[:, first:], *filters[0], of_first, parts=3, **options)
    to = z[:, first + 2 * D :] if first or out is None else out
    y = _call.forward(c.narrow(), out=to, offset=shift[first:])
    if first:
        rest = z[:, :first] + shift[:first, None].to(z.dtype)
        c = _check.convolution(
            "HyenaOperator", rest, None, None, (taps[:first], added[:first]), **options
        )
        gates = _call.forward(c).split(D, dim=1)
        del rest, c
        for gate, (k, skip) in zip(reversed(gates), filters[1:], strict=True):
            c = _check.convolution("HyenaOperator", y, k, skip, **options)
            y = _call.forward(c.narrow()).mul_(gate)
        if out is not None:
            y = out.copy_(y)
    return y


def gradients(
    dy: Tensor,
    z: Tensor,
    short: tuple[Tensor, Tensor],
    filter: tuple[Tensor, Tensor],
    *,
    segments: Segments | None = None,
) -> tuple[Tensor, list[Tensor | None]]:
    """Of sum(dy · y), where y (B, D, L) is what an operator with one long convolution makes of
    z (B, 3·D, L), bias included, of what the kernel `takes`, without y itself.

    Returns: that of z, and those of filter, skip, and taps and bias of the short convolution, in
        float32, None of what needs no gradient.
    """
    c = _check.convolution("HyenaOperator", z, *filter, short, parts=3, segments=segments)
    needed = [x is not None and x.requires_grad for x in c.tensors[1:]]
    dz, *others = _call.backward(dy, c.narrow(), [True, *needed])
    assert dz is not None
    return dz, others


def in_workspace(u: Tensor, weight: Tensor) -> Tensor:
    """weight · u, as z (B, C, L), in memory of the calling thread, valid until its next call. Only
    where no gradient is recorded."""
    dtype = dtype_of_product(u)
    with torch.autocast("cpu", enabled=False):
        return project(u.to(dtype), weight.to(dtype), None, _workspace)


def project(
    u: Tensor, weight: Tensor, bias: Tensor | None, memory: Callable[..., Tensor]
) -> Tensor:
    """u (B, L, D) times the weight (C, D), as z (B, C, L) with positions side by side, in what
    ``memory(shape, dtype)`` gives."""
    B, L, _ = u.shape
    # Rows that begin a power of two apart share a few sets of the caches, which makes the product
    # up to a fourth slower: so they begin somewhat further apart.
    stride = -(-L // 16) * 16
    if stride % 256 == 0:
        stride += 16 if L < 4096 else 272
    z: Tensor = memory((B, len(weight), stride), u.dtype)[..., :L]
    for row, out in zip(u.unbind(), z.unbind(), strict=True):
        if bias is None:
            torch.mm(weight, row.t(), out=out)
        else:
            torch.addmm(bias[:, None], weight, row.t(), out=out)
    return z


def dtype_of_product(u: Tensor) -> torch.dtype:
    """That of the product: u's, or that of its device's autocast, which leaves float64 alone."""
    device = u.device.type
    if not u.is_meta and torch.is_autocast_enabled(device) and u.dtype != torch.float64:
        return torch.get_autocast_dtype(device)
    return u.dtype


def _workspace(shape: tuple[int, int, int], dtype: torch.dtype) -> Tensor:
    """Memory of this thread, kept if it is not too large."""
    size = shape[0] * shape[1] * shape[2] * dtype.itemsize
    memory: Tensor | None = getattr(_of_thread, "memory", None)
    if memory is None or memory.numel() < size:
        # Not an inference tensor, which could not be written to outside inference mode.
        with torch.inference_mode(False):
            memory = torch.empty(size, dtype=torch.uint8, device="cpu")
        if size <= LARGEST_KEPT:
            _of_thread.memory = memory
    return memory[:size].view(dtype).view(shape)
