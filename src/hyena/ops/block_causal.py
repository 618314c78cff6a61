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

LEAF = 32

Convolution = Callable[[Tensor, Tensor], Tensor]  # of u (B, D, L) and k (D, K)


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


def by_halves(u: Tensor, k: Tensor, *, short: Convolution, two_sided: Convolution) -> Tensor:
    """Causal convolution of u (B, D, L) with k (D, K), in O(L · log(L) · log(K)).

    Args:
        short: causal, in the time domain.
        two_sided: with the lag 0 at the middle tap; by rows, so that none changes another.
    """
    L, K = u.shape[-1], k.shape[1]
    x = u.to(compute_dtype(u, k))
    if K <= LEAF:
        return short(x, k).to(u.dtype)
    leaves = F.pad(x, (0, -L % LEAF)).unflatten(-1, (-1, LEAF))
    y = _each(short, leaves, k[:, :LEAF]).flatten(-2)[..., :L]
    for size, reach, _ in levels(L, K):
        before = x[..., size - reach : L - 1].unfold(-1, reach, 2 * size)  # (B, D, blocks, reach)
        taps = F.pad(k[:, 1 : 2 * reach], (0, max(2 * reach - K, 0)))
        after = _each(two_sided, before, taps)
        after = F.pad(after, (0, 2 * size - reach)).flatten(-2)
        y[..., size:] += after[..., : L - size]
    return y.to(u.dtype)


def _each(convolution: Convolution, blocks: Tensor, taps: Tensor) -> Tensor:
    """The convolution of each block: (B, D, blocks, size) → the same."""
    rows = blocks.transpose(1, 2).flatten(0, 1)
    return convolution(rows, taps).unflatten(0, (-1, blocks.shape[2])).transpose(1, 2)
