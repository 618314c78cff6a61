"""Documents of like length as one batch of rows, so that attention needs no mask.

A document is what a token may look back at: the real tokens of a row, or those of one of its packed
documents. Rows end in whatever fills them up: under the causal rule nothing before looks there.

Sizes: B batch, L length, H heads, E numbers of a head, G tokens gathered.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from hyena.ops import Segments

_MOST = 65535  # rows of a group: CUDA's attention kernels take no more


class Packing:
    """How the real tokens of a batch (B, L) are gathered, and what comes of them is put back.

    Lengths are like if they round up to the same eighth of an octave: rows are filled up by an
    eighth at most, and L tokens make about 8 · log2 L groups at most, however many documents.

    Args:
        ids: (B, L) integers, equal exactly within a document of a row.
        mask: (B, L) bool, True at real tokens, of which there is one at least; None if all are.

    Attributes: ``groups``, documents and length of the longest for each.
    """

    def __init__(self, ids: Tensor, mask: Tensor | None = None) -> None:
        self._shape = B, L = ids.shape
        document = (ids.cpu() + L * torch.arange(B)[:, None]).flatten()
        real = torch.arange(B * L) if mask is None else mask.flatten().nonzero()[:, 0].cpu()
        _, sizes = document[real].unique_consecutive(return_counts=True)
        first = sizes.cumsum(0) - sizes  # of each document, among the real tokens
        order = sizes.argsort(stable=True)
        _, documents = _rounded(sizes[order]).unique_consecutive(return_counts=True)
        longest = sizes[order][documents.cumsum(0) - 1]
        self.groups = [
            (min(count - at, _MOST), length)
            for count, length in zip(documents.tolist(), longest.tolist(), strict=True)
            for at in range(0, count, _MOST)
        ]

        width = longest.repeat_interleave(documents)  # of each document, in order, as of all below
        start = width.cumsum(0) - width
        G = int(width.sum())
        within = torch.arange(G) - start.repeat_interleave(width)
        last = (sizes[order] - 1).repeat_interleave(width)  # it fills its row up
        gather = real[first[order].repeat_interleave(width) + torch.minimum(within, last)]
        begins = torch.empty_like(start)
        begins[order] = start
        scatter = torch.full((B * L,), G)  # where padding finds zeros
        scatter[real] = (begins - first).repeat_interleave(sizes) + torch.arange(len(real))
        self._gather, self._scatter = gather.to(ids.device), scatter.to(ids.device)

    def rows(self, x: Tensor) -> list[Tensor]:
        """x (B, H, L, E) → (documents, H, longest, E) of each group."""
        gathered = _taken(x.transpose(1, 2).flatten(0, 1), self._gather)  # (G, H, E)
        parts = gathered.split([count * longest for count, longest in self.groups])
        return [
            part.unflatten(0, group).transpose(1, 2)
            for part, group in zip(parts, self.groups, strict=True)
        ]

    def put_back(self, rows: list[Tensor]) -> Tensor:
        """The rows of each group → (B, H, L, E), zeros at padding."""
        parts = [y.transpose(1, 2).flatten(0, 1) for y in rows]
        parts.append(parts[0].new_zeros(1, *parts[0].shape[1:]))
        found = _taken(torch.cat(parts), self._scatter)
        return found.unflatten(0, self._shape).transpose(1, 2)


def packing_of(mask: Tensor | None, segments: Segments | None) -> Packing | None:
    """Reads where documents and padding lie; None if there is nothing to tell apart: no padding and
    no documents, or padding alone."""
    if mask is not None:
        real = int(mask.sum())
        if real == 0 or (real == mask.numel() and segments is None):
            return None
        ids = torch.zeros_like(mask, dtype=torch.int64) if segments is None else segments.ids
        return Packing(ids, mask)
    return None if segments is None or not segments.ids.numel() else segments.once(_of_segments)


def _of_segments(segments: Segments) -> Packing:
    """Made once for all layers that a batch goes through."""
    return Packing(segments.ids)


def _taken(x: Tensor, index: Tensor) -> Tensor:
    """Tokens of x (tokens, H, E). The gradient of ``index_select`` is summed token by token, which
    takes three times as long on a CPU."""
    return F.embedding(index, x.flatten(1)).unflatten(1, x.shape[1:])


def _rounded(sizes: Tensor) -> Tensor:
    """Up to multiples of an eighth of the power of two below; exactly where that is no integer."""
    bits = torch.frexp(sizes.double()).exponent.long()
    step = torch.ones_like(sizes) << (bits - 4).clamp(min=0)
    return -(-sizes // step) * step
