"""A Hyena operator on a piece of rows that are cut over processes, by groups of channels.

As on whole rows (`hyena.mixers.hyena.groups`) a group of channels goes all the way between the
projections before the next one begins. What lies there needs the other pieces: whoever has cut the
rows makes it.

Sizes: B batch, p positions of the piece that is here, D width, N order, G channels of a group,
C = (N + 1)·G.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from hyena.filters.parts import slices
from hyena.mixers.hyena.groups import Between, Buffers, Group, Input, like_of, project, rows_of
from hyena.mixers.hyena.operator import HyenaOperator

MOST_GROUPS = 16
"""However little memory there is: each one is projected by itself, and sends messages of its
own."""

_ROWS = 11  # of p positions that a channel has at once for each of N: projections, pieces sent


class Cut(Protocol):
    """What lies between an operator's projections, on a piece of rows.

    Attributes:
        longest: positions of the longest piece, by which all processes choose the same groups.
        processes: their number.
        shared: what the filters of all channels are made of, see
            `hyena.filters.filter.ChannelTaps`.
    """

    @property
    def longest(self) -> int: ...

    @property
    def processes(self) -> int: ...

    @property
    def shared(self) -> tuple[Tensor, ...]: ...

    def between(
        self,
        z: Tensor,
        short: tuple[Tensor, Tensor | None],
        channels: slice,
        shared: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """What the output projection is given of a range of the channels, (B, G, p). All processes
        call it for the same ranges in one order, and take its gradients in one order.

        Args: what the input projection gives of them, (B, C, p); their part of the short
            convolution, taps (C, K) and bias (C,); ``shared``, or leaves in its place.
        """


def groups_of(
    op: HyenaOperator, batch: int, cut: Cut, memory: int, dtype: torch.dtype
) -> list[slice]:
    """The channels of each group, so that what it makes takes so many bytes, if they are enough for
    a sixteenth of the channels, and for one channel on each process."""
    each = batch * cut.longest * _ROWS * op.order * dtype.itemsize
    most = max(1, min(MOST_GROUPS, op.width // cut.processes))
    return slices(op.width, each, max(memory, -(-op.width // most) * each))


def between_projections(
    op: HyenaOperator, u: Input, cut: Cut, memory: int, buffers: Buffers
) -> Between:
    """What the output projection is given; ``beside`` has room for what any group projects.

    Args: memory: bytes that a group may take, the same on all processes.
    """
    like = like_of(op, u)
    parts = groups_of(op, u.batch, cut, memory, like.dtype)
    beside = (op.order + 1) * max(len(range(op.width)[channels]) for channels in parts)
    rows = buffers.take("rows", (u.batch, beside + op.width, u.length), like)
    y = rows[:, beside:]
    for channels in parts:
        group, weight = Group(op, channels), rows_of(op, op.in_proj.weight, channels)
        z = rows[:, : len(weight)]
        project(u, weight, z)
        z += group.bias[:, None].to(z.dtype)
        y[:, channels] = cut.between(z, group.short, channels)
    return Between(y, rows[:, :beside], None)
