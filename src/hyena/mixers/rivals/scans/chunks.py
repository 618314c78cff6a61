"""A recurrence of matrices in chunks: products of matrices within, a scan from chunk to chunk.

Sizes: B batch, H heads, L length, n numbers read and written, P columns; S positions a chunk, c
chunks.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from hyena.mixers.rivals.scans.scan import linear_scan, previous


def chunked(
    read: Tensor,
    write: Tensor,
    x: Tensor,
    ids: Tensor | None,
    size: int,
    log_decay: Tensor | None = None,
    before: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""h_t = e^{a_t} h_{t−1} + write_t x_tᵀ and y_t = h_tᵀ read_t, over the document of t.

    In O(L·(S + n)·P) a head. Sums of exponents are formed of the terms between two positions, not
    as the difference of two running sums, and every exponent is at most zero: nothing cancels and
    nothing overflows.

    Args:
        read, write: (B, H, L, n), or (B, 1, L, n) if all heads share them.
        x: (B, H, L, P).
        ids: (B, L) integers that increase from document to document, or None.
        size: S.
        log_decay: a, (B, H, L), at most zero; None means zero.
        before: h before the first position, (B, H, n, P); None means zero.

    Returns: y (B, H, L, P), and h after each chunk, (B, H, c, n, P), of the document that is open
        at the chunk's end.
    """
    L = x.shape[2]
    read, write, x = (_cut(t, size) for t in (read, write, x))  # (B, H, c, S, ·)
    scores = (read @ write.transpose(-1, -2)).tril()
    keep = x.new_ones(1, 1, x.shape[2])  # of what a chunk is handed, what it hands on
    if log_decay is not None:
        a = _cut(log_decay[..., None], size)
        earlier = torch.ones(size, size, dtype=torch.bool, device=x.device).tril(-1)
        # Entry (t, s): e to the sum of a over s < i ≤ t
        decay = a.expand(*a.shape[:-1], size).masked_fill(~earlier, 0).cumsum(-2).exp()
        since = a.cumsum(-2).exp()  # the beginning of the chunk
        scores = scores * decay
        read, write, keep = read * since, write * decay[..., -1, :, None], since[..., -1, 0]
    if ids is not None:
        # At the end of a chunk a document is open: the chunk hands on what was written in it, and
        # what came before if it was open at the end of the chunk before. What that one handed on is
        # read where its document goes on.
        ids = F.pad(ids, (0, -L % size), value=-1).unflatten(1, (-1, size))  # (B, c, S)
        last = ids[..., -1:]
        handed = F.pad(last, (0, 0, 1, 0), value=-1)[:, :-1]  # the document of what came before
        scores = scores.masked_fill((ids[..., :, None] != ids[..., None, :])[:, None], 0)
        write = write.masked_fill((ids != last)[:, None, ..., None], 0)
        read = read.masked_fill((ids != handed)[:, None, ..., None], 0)
        keep = keep * (last == handed)[:, None, :, 0]
    added = write.transpose(-1, -2) @ x  # (B, H, c, n, P)
    first = None if before is None else before.flatten(-2)
    h = linear_scan(added.flatten(-2), keep[..., None], first)
    y = scores @ x + read @ previous(h, None, 0.0 if first is None else first).unflatten(
        -1, added.shape[-2:]
    )
    h = h.unflatten(-1, added.shape[-2:])
    return y.flatten(2, 3)[:, :, :L], h


def _cut(t: Tensor, size: int) -> Tensor:
    """(B, H, L, ·) → (B, H, c, S, ·), filled up with zeros."""
    return F.pad(t, (0, 0, 0, -t.shape[2] % size)).unflatten(2, (-1, size))
