"""Where the documents of a packed batch lie.

A segment is a run of positions of one row that must not see any other run. Rows are always
separate; within a row, a change of document id begins a new segment.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, final

import torch
from torch import Tensor

from hyena.ops.arguments import check_size, check_tensor
from hyena.ops.observed import mapped, records_program, transformed

Made = TypeVar("Made")


@final
class Segments:
    """The documents of a (B, L) batch.

    Build it with `from_document_ids` or `from_cu_seqlens`; build it once per batch and hand it to
    every layer, since reading the boundaries waits for the device. In a program that a compiler
    records, which is to take any documents, nothing is read: `longest` is L there, and `trivial`
    False.

    Attributes:
        ids: (B, L) int64, equal exactly within a document of a row; from 0 up along a row.
    """

    def __init__(self, ids: Tensor) -> None:
        self.ids = ids
        self._made: dict[tuple[Any, ...], Any] = {}

    @staticmethod
    def from_document_ids(document_ids: Tensor) -> Segments:
        """Segments of a (B, L) integer tensor: a new document begins wherever the id changes.

        Raises: TypeError on what is no tensor; ValueError if it is not a two-dimensional integer
            tensor, and where boundaries are read of one that torch.func.vmap maps.
        """
        check_tensor("Segments", "document_ids", document_ids)
        _check_integers("document_ids", "an integer tensor (B, L)", document_ids, 2)
        return Segments(_begins(document_ids).cumsum(1) - 1)

    @staticmethod
    def from_cu_seqlens(cu_seqlens: Tensor, batch: int, length: int) -> Segments:
        """Segments from cumulative lengths over the batch's rows laid end to end.

        Args:
            cu_seqlens: (n + 1,) integers, increasing, from 0 to batch · length; a row's end always
                ends a document, whether it is listed or not.
            batch, length: B and L.

        Raises: TypeError on what is no tensor; ValueError if the values are not such a list, which
            a program that is recorded cannot see, or if torch.func.vmap maps them.
        """
        check_tensor("Segments", "cu_seqlens", cu_seqlens)
        _check_integers("cu_seqlens", "integers (documents + 1,)", cu_seqlens, 1, least=1)
        batch = check_size("Segments", "batch", batch)
        length = check_size("Segments", "length", length)
        total = batch * length
        check_size("Segments", "batch · length", total)
        edges = cu_seqlens.to(torch.int64)
        if not records_program():
            _check_values("cu_seqlens", edges)
            first, last = int(edges[0]), int(edges[-1])
            decrease = bool((edges[1:] < edges[:-1]).any())
            if first != 0 or last != total or decrease:
                raise ValueError(
                    f"cu_seqlens: expected increasing values from 0 to B·L = {total}, got "
                    f"{first} … {last}"
                    + ("" if first != 0 or last != total else ", which decrease somewhere")
                )
        place = torch.arange(total, device=edges.device)
        return Segments.from_document_ids(
            torch.searchsorted(edges, place, right=True).view(batch, length)
        )

    def once(self, make: Callable[..., Made], *arguments: Any) -> Made:
        """What ``make`` makes of the segments, with hashable arguments; the same at each call."""
        key = (make, *arguments)
        if key not in self._made:
            self._made[key] = make(self, *arguments)
        made: Made = self._made[key]
        return made

    @property
    def bounds(self) -> Tensor:
        """Row, start and length of each document, in order: (documents, 3) int64, on the CPU."""
        return self.once(_bounds)

    @property
    def spans(self) -> tuple[tuple[int, int, int], ...]:
        """(row, start, stop) of each document, in order."""
        return tuple((row, start, start + size) for row, start, size in self.bounds.tolist())

    @property
    def longest(self) -> int:
        """Length of the longest document (0 for an empty batch)."""
        if records_program():
            return self.ids.shape[1]
        return int(self.bounds[:, 2].max()) if self.ids.numel() else 0

    def reach(self, limit: int | None = None) -> int:
        """Length of the longest document. A recorded program does not know it: there it is that of
        a row, but no more than ``limit``, and a run with a longer document raises RuntimeError."""
        if limit is None or not records_program() or self.ids.shape[1] <= limit:
            return self.longest
        torch._assert_async(
            (self.columns < limit).all(), f"a packed document is longer than max_length {limit}"
        )
        return limit

    @property
    def columns(self) -> Tensor:
        """How many positions of the same document stand before each: (B, L) int64."""
        at = torch.arange(self.ids.shape[1], device=self.ids.device)
        return at - torch.where(_begins(self.ids), at, 0).cummax(1).values

    @property
    def trivial(self) -> bool:
        """True if no row holds two documents, so that packing changes nothing."""
        return not records_program() and len(self.bounds) <= self.ids.shape[0]


def _begins(ids: Tensor) -> Tensor:
    """Where documents begin."""
    change = torch.ones_like(ids, dtype=torch.bool)
    change[:, 1:] = ids[:, 1:] != ids[:, :-1]
    return change


def _bounds(segments: Segments) -> Tensor:
    ids = segments.ids
    _check_values("document_ids", ids)
    starts = _begins(ids).nonzero().cpu()
    flat = starts[:, 0] * ids.shape[1] + starts[:, 1]
    lengths = torch.diff(flat, append=flat.new_tensor([ids.numel()]))
    return torch.cat([starts, lengths[:, None]], dim=1)


def _check_values(name: str, x: Tensor) -> None:
    if x.is_meta:
        raise ValueError(f"Segments: {name} are on meta, without values; put them on the CPU")
    if not transformed():
        return
    if records_program():
        raise ValueError(
            f"Segments: a program of torch.func's transforms cannot read {name}; make it without "
            "torch.compile, or without the transform"
        )
    if mapped(x):
        raise ValueError(
            f"Segments: torch.func.vmap maps {name}, so that there are no values to read; map no "
            "documents (in_dims None), or make the mapped dimension rows of the batch"
        )


def _check_integers(name: str, expected: str, x: Tensor, dimensions: int, least: int = 0) -> None:
    fits = x.dim() == dimensions and x.shape[0] >= least
    if not fits or x.is_floating_point() or x.is_complex():
        raise ValueError(f"{name}: expected {expected}, got {tuple(x.shape)} of {x.dtype}")
