"""Where the documents of a packed batch lie.

A segment is a run of positions of one row that must not see any other run. Rows are always
separate; within a row, a change of document id begins a new segment.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)  # == of tensors is no truth value
class Segments:
    """The documents of a (B, L) batch, once as spans and once as ids.

    Build it with `from_document_ids` or `from_cu_seqlens`; build it once per batch and hand it to
    every layer, since reading the boundaries waits for the device.

    Attributes:
        ids: (B, L) int64, equal exactly within a document of a row; increases along a row.
        spans: (row, start, stop) of each document, in order.

    Raises: ValueError if the spans do not cover the batch, row by row.
    """

    ids: Tensor
    spans: tuple[tuple[int, int, int], ...]

    def __post_init__(self) -> None:
        if self.ids.dim() != 2 or self.ids.is_floating_point():
            raise ValueError(
                f"Segments: expected integer ids (B, L), got {tuple(self.ids.shape)} of "
                f"{self.ids.dtype}"
            )
        check_spans("Segments", self.spans, *self.ids.shape)

    @property
    def longest(self) -> int:
        """Length of the longest document (0 for an empty batch)."""
        return max((stop - start for _, start, stop in self.spans), default=0)

    @property
    def trivial(self) -> bool:
        """True if no row holds two documents, so that packing changes nothing."""
        return len(self.spans) <= self.ids.shape[0]

    @staticmethod
    def from_document_ids(document_ids: Tensor) -> Segments:
        """Segments of a (B, L) integer tensor: a new document begins wherever the id changes.

        Raises: ValueError if the tensor is not a two-dimensional integer tensor.
        """
        if document_ids.dim() != 2 or document_ids.is_floating_point():
            raise ValueError(
                "document_ids: expected an integer tensor (B, L), got "
                f"{tuple(document_ids.shape)} of {document_ids.dtype}"
            )
        change = torch.ones_like(document_ids, dtype=torch.bool)
        change[:, 1:] = document_ids[:, 1:] != document_ids[:, :-1]
        return Segments._from_starts(change)

    @staticmethod
    def from_cu_seqlens(cu_seqlens: Tensor, batch: int, length: int) -> Segments:
        """Segments from cumulative lengths over the batch's rows laid end to end.

        Args:
            cu_seqlens: (n + 1,) integers, increasing, from 0 to batch · length; a row's end always
                ends a document, whether it is listed or not.
            batch, length: B and L.

        Raises: ValueError if the values are not such a list.
        """
        if cu_seqlens.dim() != 1 or cu_seqlens.is_floating_point() or cu_seqlens.numel() < 1:
            raise ValueError(
                "cu_seqlens: expected integers (documents + 1,), got "
                f"{tuple(cu_seqlens.shape)} of {cu_seqlens.dtype}"
            )
        total = batch * length
        edges = cu_seqlens.to(torch.int64)
        first, last = int(edges[0]), int(edges[-1])
        if first != 0 or last != total or bool((edges[1:] < edges[:-1]).any()):
            raise ValueError(
                f"cu_seqlens: expected increasing values from 0 to B·L = {total}, got "
                f"{first} … {last}"
                + ("" if first != 0 or last != total else ", which decrease somewhere")
            )
        change = torch.zeros(total, dtype=torch.bool, device=edges.device)
        change[edges[edges < total]] = True
        change = change.view(batch, length)
        change[:, :1] = True
        return Segments._from_starts(change)

    @staticmethod
    def _from_starts(change: Tensor) -> Segments:
        batch, length = change.shape
        ids = change.cumsum(1) - 1
        starts = change.nonzero().tolist()
        spans = []
        for index, (row, start) in enumerate(starts):
            following = starts[index + 1] if index + 1 < len(starts) else (batch, 0)
            stop = following[1] if following[0] == row else length
            spans.append((row, start, stop))
        return Segments(ids, tuple(spans))


def check_spans(op: str, spans: Iterable[Sequence[int]], batch: int, length: int) -> None:
    """The native kernel reads and writes where spans (row, start, stop) say.

    Raises: ValueError unless they cover a batch (B, L) once, in order.
    """
    at, end = 0, batch * length  # positions of the rows laid end to end
    expected = f"{op}: expected spans (row, start, stop) that cover (B, L) = ({batch}, {length})"
    for span in spans:
        row, start, stop = span if len(span) == 3 else (-1, 0, 0)
        if at == end or not 0 <= start < stop <= length or row * length + start != at:
            place = f"row {at // length} goes on at {at % length}" if at < end else "all is covered"
            raise ValueError(f"{expected} in order, got {tuple(span)} where {place}")
        at += stop - start
    if at != end:
        raise ValueError(
            f"{expected}, but they end where row {at // length} goes on at {at % length}"
        )


def spans_of(segments: Segments | None) -> list[int] | None:
    """The spans laid end to end, as the native kernel takes them; None if they change nothing."""
    if segments is None or segments.trivial:
        return None
    return [edge for span in segments.spans for edge in span]
