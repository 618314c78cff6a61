"""What the processes of a group send one another of their pieces of rows.

All of it is one collective, in which each process sends every other one a part of its own size, and
whose gradient goes the same way back. The parts are where the uses differ: channels of the whole
rows, or positions of other pieces.

Sizes: B batch, C channels, L length of the whole rows, P processes, p positions of a piece, c of
the C channels.
"""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor
from torch.distributed import _functional_collectives as collectives

from hyena.distributed.rows import Rows, Span


def to_channels(x: Tensor, rows: Rows) -> Tensor:
    """From a piece of all channels to all positions of some: (B, C, p) → (B, c, L).

    A process sends C · p · (P − 1)/P numbers of each row.
    """
    ranges = rows.channels(x.shape[1])
    own = ranges[rows.rank]
    count = own.stop - own.start
    shapes = [(x.shape[0], count, length) for length in rows.lengths]
    return torch.cat(_sent([x[:, each] for each in ranges], shapes, rows), dim=-1)


def to_positions(x: Tensor, rows: Rows, channels: int) -> Tensor:
    """The way back, to all ``channels`` C: (B, c, L) → (B, C, p)."""
    parts = [x[..., start:stop] for start, stop in rows.spans]
    length = rows.lengths[rows.rank]
    shapes = [(x.shape[0], each.stop - each.start, length) for each in rows.channels(channels)]
    return torch.cat(_sent(parts, shapes, rows), dim=1)


def all_channels(x: Tensor, rows: Rows, channels: int) -> Tensor:
    """What each process has of its channels, on all of them: (B, c, …) → (B, C, …)."""
    ranges = rows.channels(channels)
    shapes = [(x.shape[0], each.stop - each.start, *x.shape[2:]) for each in ranges]
    return torch.cat(_sent([x] * rows.processes, shapes, rows), dim=1)


def positions(x: Tensor, rows: Rows, wanted: Sequence[Span]) -> Tensor:
    """Of each process's x (B, C, p) the positions that each wants: (B, C, its number of them).

    Args: wanted: positions of the whole rows for each process, the same list on all of them.
    """
    own = rows.start, rows.stop
    parts = []
    for span in wanted:
        start, stop = _shared(own, span)
        parts.append(x[..., start - rows.start : stop - rows.start])
    found = [_shared(span, wanted[rows.rank]) for span in rows.spans]
    shapes = [(*x.shape[:2], stop - start) for start, stop in found]
    return torch.cat(_sent(parts, shapes, rows), dim=-1)


def whole(x: Tensor, rows: Rows) -> Tensor:
    """All positions, on every process: (B, C, p) → (B, C, L)."""
    return positions(x, rows, [(0, rows.length)] * rows.processes)


def of_earlier(x: Tensor, rows: Rows) -> Tensor:
    """What each process before this one has: (…) → (rank, …)."""
    parts = [x[None] if rank > rows.rank else x[None][:0] for rank in range(rows.processes)]
    shapes = [(int(rank < rows.rank), *x.shape) for rank in range(rows.processes)]
    return torch.cat(_sent(parts, shapes, rows))


def _shared(one: Span, other: Span) -> Span:
    """The positions that are in both, somewhere in ``one`` if there are none."""
    start = min(max(one[0], other[0]), one[1])
    return start, max(start, min(one[1], other[1]))


def _sent(parts: Sequence[Tensor], shapes: Sequence[tuple[int, ...]], rows: Rows) -> list[Tensor]:
    """What each process has for this one, of these shapes; ``parts`` are what it has for each."""
    out = torch.cat([part.reshape(-1) for part in parts])
    sizes = [part.numel() for part in parts], [prod(shape) for shape in shapes]
    found = collectives.all_to_all_single_autograd(out, sizes[1], sizes[0], rows.group)
    found = collectives.wait_tensor(found)
    return [x.view(shape) for x, shape in zip(found.split(sizes[1]), shapes, strict=True)]
