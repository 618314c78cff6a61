"""A causal convolution in which nothing of the future, not even rounding, reaches an output.

An FFT mixes all positions of its row, so a row may hold only positions that every output of the
row may see. Divide and conquer gives such rows: the first half of a block is convolved with the
taps that reach the block's second half, and each half is a block of its own. Blocks of `LEAF`
positions are summed in the time domain. See "Causality" in docs/mathematics.md.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F

from hyena.ops.fft import compute_dtype
from hyena.ops.segments import Segments

LEAF = 32


class Level(NamedTuple):
    """Blocks of 2·size positions. From the last ``reach`` inputs of a block's first half to the
    first ``reach`` outputs of its second half, lags run from 1 to 2·reach − 1."""

    size: int
    reach: int
    blocks: int  # those that have a second half


def levels(length: int, taps: int) -> list[Level]:
    """What is convolved besides the leaves."""
    if taps <= LEAF:
        return []  # all in the time domain
    result = []
    size = LEAF
    while size < length:
        result.append(Level(size, min(size, taps - 1), -((size - length) // (2 * size))))
        size *= 2
    return result


def by_halves(
    u: Tensor,
    k: Tensor,
    segments: Segments | None,
    *,
    short: Callable[[Tensor, Tensor, Segments | None], Tensor],
    two_sided: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """Causal convolution of u (B, D, L) with k (D, K), in O(L · log(L) · log(K)).

    Of a block whose halves meet within a document, only that document has inputs and outputs.

    Args:
        short: causal, in the time domain, documents apart.
        two_sided: with the lag 0 at the middle tap; by rows, so that none changes another.
    """
    L, K = u.shape[-1], k.shape[1]
    x = u.to(compute_dtype(u, k))
    if K <= LEAF:
        return short(x, k, segments).to(u.dtype)
    ids = None if segments is None else segments.ids
    apart = None if ids is None else Segments(_blocks(ids, LEAF, 0).flatten(0, 1))
    leaves = F.pad(x, (0, -L % LEAF)).unflatten(-1, (-1, LEAF))
    y = _each(lambda u, k: short(u, k, apart), leaves, k[:, :LEAF]).flatten(-2)[..., :L]
    for size, reach, _ in levels(L, K):
        # From before the middle of each block to after it: (B, D, blocks, reach).
        before = x[..., size - reach : L - 1].unfold(-1, reach, 2 * size)
        if ids is not None:
            of = ids[:, size - reach : L - 1].unfold(-1, reach, 2 * size)
            last = of[..., -1:]
            before = before.masked_fill(of.ne(last)[:, None], 0)
        taps = F.pad(k[:, 1 : 2 * reach], (0, max(2 * reach - K, 0)))
        after = _each(two_sided, before, taps)
        if ids is not None:
            of = _blocks(ids[:, size:], 2 * size, -1)[..., :reach]
            after = after.masked_fill(of.ne(last)[:, None], 0)
        after = F.pad(after, (0, 2 * size - reach)).flatten(-2)
        y[..., size:] += after[..., : L - size]
    return y.to(u.dtype)


def _blocks(ids: Tensor, size: int, beyond: int) -> Tensor:
    """(B, L) → (B, blocks, size), the last one filled up."""
    return F.pad(ids, (0, -ids.shape[1] % size), value=beyond).unflatten(1, (-1, size))


def _each(convolution: Callable[[Tensor, Tensor], Tensor], blocks: Tensor, taps: Tensor) -> Tensor:
    """The convolution of each block: (B, D, blocks, size) → the same."""
    rows = blocks.transpose(1, 2).flatten(0, 1)
    return convolution(rows, taps).unflatten(0, (-1, blocks.shape[2])).transpose(1, 2)
