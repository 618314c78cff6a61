"""Documents of like length as one batch of rows, in which each begins at the first position.

They are gathered, and what comes of them is put back, by one index for the whole batch.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hyena.ops.fft import fast_length
from hyena.ops.observed import differentiated
from hyena.ops.segments import Segments


class Batch(NamedTuple):
    """Documents that share a batch of rows."""

    place: slice  # in what is gathered
    documents: int
    longest: int

    def rows(self, x: Tensor) -> Tensor:
        """(D, gathered) → (documents, D, longest)."""
        return x[:, self.place].unflatten(1, (self.documents, self.longest)).transpose(0, 1)


class Documents:
    """How the positions of a batch (B, L) are gathered, documents of like length side by side."""

    def __init__(self, segments: Segments) -> None:
        self.shape = segments.ids.shape
        total, bounds = segments.ids.numel(), segments.bounds
        first = bounds[:, 0] * self.shape[1] + bounds[:, 1]
        lengths = bounds[:, 2]
        found, which = lengths.unique(return_inverse=True)
        kinds = torch.tensor([fast_length(n) for n in found.tolist()])[which]
        self.batches: list[Batch] = []
        places = []
        at = 0
        for kind in kinds.unique().tolist():
            members = kinds == kind
            some, longest = lengths[members], int(lengths[members].max())
            step = torch.arange(longest)
            index = first[members, None] + step
            places.append(index.masked_fill_(step >= some[:, None], total).flatten())
            size = len(some) * longest
            self.batches.append(Batch(slice(at, at + size), len(some), longest))
            at += size
        gather = torch.cat(places) if places else torch.empty(0, dtype=torch.int64)
        scatter = torch.empty(total + 1, dtype=torch.int64)
        scatter[gather] = torch.arange(at)
        device = segments.ids.device
        self._gather, self._scatter = gather.to(device), scatter[:total].to(device)

    def gathered(self, u: Tensor) -> Tensor:
        """(B, D, L) → (D, gathered), zeros behind the shorter documents."""
        flat = u.transpose(0, 1).flatten(1)
        moved: Tensor = differentiated(_Move, flat, self._gather, self._scatter)
        return moved

    def put_back(self, parts: list[Tensor]) -> Tensor:
        """The rows of each batch → (B, D, L)."""
        flat = torch.cat([x.transpose(0, 1).flatten(1) for x in parts], dim=1)
        moved: Tensor = differentiated(_Move, flat, self._scatter, self._gather)
        return moved.unflatten(1, self.shape).transpose(0, 1)

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.batches)


def documents_of(segments: Segments) -> Documents:
    """Made once for all layers that a batch goes through."""
    return segments.once(Documents)


def _moved(x: Tensor, index: Tensor) -> Tensor:
    """Columns of x (D, N); where the index is N, zeros."""
    beyond = index == x.shape[1]
    return x.index_select(1, index.masked_fill(beyond, 0)).masked_fill_(beyond, 0)


class _Move(torch.autograd.Function):
    """Columns by an index of which no two lead to one column; ``back`` is the index of the way
    back, which the gradient takes."""

    @staticmethod
    def forward(x: Tensor, index: Tensor, back: Tensor) -> Tensor:
        return _moved(x, index)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
        index, back = ctx.saved_tensors
        return _Move.apply(dy, back, index), None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], x: Tensor, index: Tensor, back: Tensor) -> Any:
        x = x.movedim(in_dims[0], 0)
        y = _Move.apply(x.flatten(0, 1), index, back)
        return y.unflatten(0, (info.batch_size, -1)), 0
