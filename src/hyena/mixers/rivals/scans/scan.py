"""Recurrences along a sequence in O(√L) vector operations instead of L.

The sequence is cut into about √L blocks of about √L positions. Position j of all blocks is computed
at once, as if nothing came before each block; then what the blocks hand on to one another, block
by block; then, again for position j of all blocks at once, what came in is added. A block begins
with small numbers and not with a large sum, so rounding errors grow with √L as well, not with L.

Sizes: L length, D channels; whatever stands before them is batch.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hyena.ops import Segments
from hyena.ops.observed import compiling, refuses_functions

EMPTY = -1e30
"""The exponent of nothing: far below any key, yet finite, so that two of them have a difference."""


def linear_scan(x: Tensor, a: Tensor, before: Tensor | None = None) -> Tensor:
    """h_t = a_t · h_{t−1} + x_t.

    Args:
        x: (…, L, D).
        a: (…, L, D) or (…, L, 1), to be broadcast over x; where it is zero, the past is forgotten.
        before: h before the first position, (…, D); None means zero.

    Returns: h, (…, L, D). Differentiable in x and a, twice.
    """
    if before is not None:
        x = _with_first(x, torch.addcmul(x[..., 0, :], a[..., 0, :], before))
    return _recurrence(x, a, largest=False)


def running_max(
    keys: Tensor,
    starts: Tensor | None,
    decay: Tensor | None = None,
    before: Tensor | None = None,
) -> Tensor:
    """m_t = max(keys_t, m_{t−1} − decay), anew wherever ``starts`` says so.

    The largest exponent of a sum of exponentials that decay: with e^{−m_t} taken out, no term of
    the sum exceeds one, and at least one term is one.

    Args:
        keys: (B, L, D).
        starts: (B, L, 1) bool, or None; see `starts_of`.
        decay: (D,), at least zero; None means zero.
        before: m before the first position, (B, D); None means nothing.

    Returns: m, (B, L, D), without gradient: sums that it scales do not depend on it.
    """
    keys = keys.detach()
    fall = keys.new_zeros(1) if decay is None else -decay.detach().to(keys.dtype)
    if starts is not None:
        fall = fall.masked_fill(starts, -math.inf)
    if before is not None:
        keys = _with_first(keys, torch.maximum(keys[:, 0], before.detach() + fall))
    return _recurrence(keys, fall.expand_as(keys), largest=True)


def starts_of(segments: Segments | None) -> Tensor | None:
    """(B, L, 1) bool: where documents begin; None if only rows begin."""
    if segments is None:
        return None
    starts = segments.ids != segments.ids.roll(1, dims=1)
    starts[:, :1] = True
    return starts[..., None]


def previous(x: Tensor, starts: Tensor | None, fill: float | Tensor = 0.0) -> Tensor:
    """x_{t−1} at position t, and ``fill`` at the first position of a row or document.

    Args: x (…, B, L, D); starts as from `starts_of`; fill a number, or (…, B, D) without starts.
    """
    if isinstance(fill, Tensor):
        return torch.cat([fill.unsqueeze(-2), x[..., :-1, :]], dim=-2)
    shifted = F.pad(x, (0, 0, 1, 0), value=fill)[..., :-1, :]
    return shifted if starts is None else shifted.masked_fill(starts, fill)


def _with_first(x: Tensor, first: Tensor) -> Tensor:
    """x (…, L, D) with another first position (…, D)."""
    return torch.cat([first.unsqueeze(-2), x[..., 1:, :]], dim=-2)


class _Scan(torch.autograd.Function):
    """(x, a) → h, the `linear_scan`, or the largest sum, which has no gradient; backwards in time
    if ``reverse``."""

    @staticmethod
    def forward(x: Tensor, a: Tensor, largest: bool, reverse: bool) -> Tensor:
        h = torch.empty_like(x, memory_format=torch.contiguous_format)
        if largest:
            _scan(x, a, h, reverse, _max_of_sum, torch.Tensor.add_)
        else:
            _scan(x, a, h, reverse, _multiply_and_add, torch.Tensor.mul_)
        return h

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, bool, bool], output: Tensor) -> None:
        _, a, _, ctx.reverse = inputs
        ctx.save_for_backward(a, output)

    @staticmethod
    def backward(ctx: Any, dh: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        a, h = ctx.saved_tensors
        # What reaches x_t reaches h_{t+1} with the factor a_{t+1}: the same recurrence, run back.
        dx = _Scan.apply(dh, _shifted(a, not ctx.reverse), False, not ctx.reverse)
        da = None
        if ctx.needs_input_grad[1]:
            da = (dx * _shifted(h, ctx.reverse)).sum_to_size(a.shape)
        return dx, da, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], x: Tensor, a: Tensor, *how: bool) -> Any:
        x, a = (_mapped(*t, info.batch_size) for t in zip((x, a), in_dims[:2], strict=True))
        a = a.reshape(a.shape[0], *[1] * (x.dim() - a.dim()), *a.shape[1:])  # what x has besides
        return _Scan.apply(x, a, *how), 0


def _mapped(x: Tensor, dim: int | None, size: int) -> Tensor:
    """x with the dimension that is mapped over in front, also where it is not mapped."""
    return x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)


def _shifted(x: Tensor, earlier: bool) -> Tensor:
    """x of one position before each, or after it if ``earlier``; zero at the end."""
    return F.pad(x[..., 1:, :], (0, 0, 0, 1)) if earlier else F.pad(x[..., :-1, :], (0, 0, 1, 0))


def _recurrence(x: Tensor, a: Tensor, *, largest: bool) -> Tensor:
    """h_t = a_t · h_{t−1} + x_t, or the larger of a_t + h_{t−1} and x_t."""
    if not refuses_functions():
        y: Tensor = _Scan.apply(x, a, largest, False)
        return y
    # By doubling: in O(log L) operations on all positions, none of them in place.
    h, reach = x, 1
    while reach < x.shape[-2]:
        back, later = h[..., :-reach, :], h[..., reach:, :]
        factor = a[..., reach:, :]
        later = torch.maximum(later, factor + back) if largest else later + factor * back
        h = torch.cat([h[..., :reach, :], later], dim=-2)
        before = a[..., :-reach, :]
        a = torch.cat([a[..., :reach, :], factor + before if largest else factor * before], dim=-2)
        reach *= 2
    return h


def _multiply_and_add(x: Tensor, a: Tensor, h: Tensor, out: Tensor | None = None) -> Tensor:
    if out is not None and compiling():  # Dynamo takes no ``out`` with gaps
        return out.copy_(torch.addcmul(x, a, h))
    return torch.addcmul(x, a, h, out=out)


def _max_of_sum(x: Tensor, a: Tensor, h: Tensor, out: Tensor | None = None) -> Tensor:
    if out is not None and compiling():
        return out.copy_(torch.maximum(x, a + h))
    return torch.maximum(x, a + h, out=out)


def _scan(
    x: Tensor,
    a: Tensor,
    out: Tensor,
    reverse: bool,
    step: Callable[..., Tensor],
    times: Callable[[Tensor, Tensor], Tensor],
) -> None:
    """Writes h_t = step(x_t, a_t, h_{t−1}) to ``out``; ``times`` composes two a, in place.

    The order of the rows of a slice is that of time; in processing order block 0 is the first row,
    or if ``reverse`` the last.
    """
    L = x.shape[-2]
    if out.numel() == 0:
        return
    size = _block_size(L)
    blocks = -(-L // size)

    def leading(t: Tensor, count: int) -> Tensor:
        """The rows of the first ``count`` blocks in processing order."""
        start = t.shape[-2] - count if reverse else 0
        return t.narrow(-2, start, count)

    def trailing(t: Tensor, count: int) -> Tensor:
        """The rows of the last ``count`` of the blocks that ``t`` has, in processing order."""
        return t.narrow(-2, 0 if reverse else t.shape[-2] - count, count)

    places = list(_places(L, size, reverse))
    h = out[..., places[0], :].copy_(x[..., places[0], :])
    factor = _own(a[..., places[0], :])
    for place in places[1:]:
        now = out[..., place, :]
        rows = now.shape[-2]
        factor = times(leading(factor, rows), a[..., place, :])
        h = step(x[..., place, :], a[..., place, :], leading(h, rows), out=now)
    if blocks == 1:
        return

    # Of every block but the last, which may be short: what it hands on.
    ends, factors = leading(h, blocks - 1), leading(factor, blocks - 1)
    order = range(blocks - 2, -1, -1) if reverse else range(blocks - 1)
    carries = torch.empty_like(ends, memory_format=torch.contiguous_format)
    carry: Tensor | None = None
    for i in order:
        end = ends[..., i, :]
        carry = end if carry is None else step(end, factors[..., i, :], carry)
        carries[..., i, :] = carry

    for j, place in enumerate(places):
        now = out[..., place, :]
        rows = now.shape[-2] - 1
        if rows == 0:
            break
        a_now = trailing(a[..., place, :], rows)
        factor = _own(a_now) if j == 0 else times(leading(factor, rows), a_now)
        now = trailing(now, rows)
        step(now, factor, leading(carries, rows), out=now)


def _own(x: Tensor) -> Tensor:
    """A copy in memory of its own, also of what is broadcast."""
    return x.clone(memory_format=torch.contiguous_format)


def _block_size(length: int) -> int:
    """About √length; odd, since rows that begin a power of two apart share few sets of a cache."""
    return min(math.isqrt(length) | 1, length)


def _places(length: int, size: int, reverse: bool) -> Iterator[slice]:
    """The positions that are number j of their blocks, for each j in processing order."""
    for j in range(size):
        yield slice((length - 1 - j) % size if reverse else j, None, size)
