"""A Hyena operator by groups of channels, of an input that is read a piece at a time.

Between its projections an operator treats each channel alone. So a group of channels goes all the
way before the next one begins, and the projections, (N + 1)·D numbers a position, are never whole
in memory. The input is read once a group, the last channels first: what a group projects lies where
the output of channels to come will be, and its own output takes the place of its values. Of what is
here only `Group`'s part of the layers can have a gradient.

Sizes: B batch, L length, D width, N order, G channels of a group or a share, C = (N + 1)·G, E rows
beside the output, R rows and P positions of a piece, K taps of the short convolution.
"""

import math
from collections.abc import Callable
from functools import cache
from threading import get_ident
from typing import Literal, NamedTuple, TypeGuard

import torch
from torch import Tensor, nn

from hyena.filters import Filter, LongFilter
from hyena.filters.filter import ChannelTaps
from hyena.filters.parts import slices
from hyena.filters.plain import is_plain, matrix_of
from hyena.filters.precision import wide
from hyena.mixers.checks import check_dtype, check_gaps, check_left_padding, check_mask
from hyena.mixers.hyena.generation import (
    Convolved,
    left_behind,
    of_one_size,
    planned_for,
    state_after,
    state_of,
)
from hyena.mixers.hyena.kernels import Kernel, are_taps, sums_modes
from hyena.mixers.hyena.operator import HyenaOperator
from hyena.mixers.hyena.short_conv import ShortConv, bias_of
from hyena.mixers.hyena.state import HyenaState
from hyena.mixers.mixer import Room
from hyena.ops import Segments, short_conv
from hyena.ops.native import operator
from hyena.ops.native.operator import dtype_of_product
from hyena.ops.stepping.states import normal_tensors

SHORTEST = 1 << 14
"""Positions of the shortest rows that go by groups, whatever their number: a group makes norms
again, and filters that are not kept. Whoever has no memory for many shorter rows takes fewer."""

MOST_GROUPS = 6
"""However little memory there is: each one reads the input again."""

MOST_PARTS = 8
"""Of the channels, however little memory there is, where gradients are made: the products of
narrower groups are slow."""

_SHARES = 16  # at most, of all channels: each reads all that taps are made of
_NARROWEST = 8  # channels of the narrowest group, where the width is a multiple of them

Way = Literal["direct", "steps", "gradients"]
"""From projection to result at once; one convolution after the other, as padding and prompts need
it; or with gradients."""


class Input(NamedTuple):
    """What an operator is given, piece by piece: ``read(rows, positions)`` makes (R, P, D)."""

    batch: int
    length: int
    pieces: list[tuple[slice, slice]]
    read: Callable[[slice, slice], Tensor]


class Buffers:
    """Memory for what lives until the next layer's comes, the same for all layers; each thread has
    its own, as two may go back through one graph at once."""

    def __init__(self) -> None:
        self._of: dict[tuple[int, str], Tensor] = {}

    def clear(self) -> None:
        """Gives the memory back."""
        self._of.clear()

    def take(self, name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """A tensor of any values, in the memory of this name."""
        size, key = torch.Size(shape).numel(), (get_ident(), name)
        found, kind = self._of.get(key), (like.dtype, like.device)
        if found is None or found.numel() < size or (found.dtype, found.device) != kind:
            _keep_freed_memory()
            self._of.pop(key, None)
            del found  # gone before there is another
            found = self._of[key] = like.new_empty(size)
        return found[:size].view(shape)


@cache
def _keep_freed_memory() -> None:
    """Frees a block of 31 MiB, which no program has touched.

    glibc maps a large block by itself, and when it is freed keeps up to twice its size of later
    memory that is free; larger ones than 32 MiB do not count. Without one, what is made of each
    piece may go back to the system at once and come again as new pages: 6.0 million faults instead
    of 0.9, and 27 seconds instead of 20, for 262,144 positions of 8 layers of a width of 256.
    """
    torch.empty(31 << 20, dtype=torch.uint8)


def takes(
    op: nn.Module, length: int, mask: Tensor | None, segments: Segments | None, room: Room | None
) -> TypeGuard[HyenaOperator]:
    """Whether the operator can go by groups on rows of this length: it and its layers are what
    their classes say, and nothing came before."""
    if not is_plain(op, HyenaOperator) or op.bidirectional or length < SHORTEST:
        return False
    return (
        matrix_of(op.in_proj) is not None
        and matrix_of(op.out_proj) is not None
        and is_plain(op.short_conv, ShortConv)
        and (mask is None or segments is None)
        and (room is None or (room.state is None and _leaves_by_channels(op.filter)))
        and not (op.training and op.dropout > 0)
    )


class Layout(NamedTuple):
    """How an operator goes by groups where no gradients are made.

    Attributes:
        beside: E, rows of the array that a group projects to, beside the D of the output.
        groups: channels that are projected together, all those of a group before its end, from the
            last channel to the first.
        share: channels of a group that are convolved at once, see `shares_of`.
    """

    beside: int
    groups: list[slice]
    share: int


def layout_of(
    op: HyenaOperator,
    batch: int,
    length: int,
    memory: int,
    dtype: torch.dtype,
    way: Way,
    packed: bool = False,
) -> Layout:
    """All channels at once if the memory has rows for them. Else as few groups as three eighths of
    it have rows for, where another eighth is for a share; but `MOST_GROUPS` at most, and shares of
    a sixteenth of the channels, or of one for each thread.

    Args: packed: whether the rows are documents, which take the taps of any filter.
    """
    row = max(1, batch * length * dtype.itemsize)
    most = memory // row
    if most < op.order * op.width:
        most = 3 * most // 8
    beside = rows_beside(op.width, op.order, most, MOST_GROUPS)
    ends, groups = op.width, []
    for size in sizes_beside(op.width, op.order, beside):
        groups.append(slice(ends - size, ends))
        ends -= size
    each = max(1, bytes_of_channel(op, batch, length, dtype, way, packed))
    least = max(-(-op.width // _SHARES), torch.get_num_threads())
    return Layout(beside, groups, min(max(memory // 8 // each, least), op.width))


@cache
def rows_beside(width: int, order: int, most: int, most_groups: int) -> int:
    """E: no more rows than ``most`` if they are enough for so few groups, and none without use."""
    narrowest = math.gcd(width, _NARROWEST)
    steps = range(order * narrowest, order * width + 1, order * narrowest)
    counts = {rows: len(sizes_beside(width, order, rows)) for rows in steps}
    enough = [rows for rows, count in counts.items() if count <= most_groups]
    within = [rows for rows in enough if rows <= most] or enough[:1]
    return min(within, key=counts.__getitem__)  # the first of these


@cache
def sizes_beside(width: int, order: int, beside: int) -> tuple[int, ...]:
    """Channels of each group, the last channels' first: what a group projects, N + 1 times as many
    rows, fits beside the output of those before it. All but the first channels' are multiples of
    the narrowest group."""
    narrowest, left, found = math.gcd(width, _NARROWEST), width, list[int]()
    while left:
        size = min(left, (beside + left) // (order + 1))
        found.append(size if size == left else size - size % narrowest)
        left -= found[-1]
    return tuple(found)


def shares_of(channels: slice, most: int) -> list[slice]:
    """The channels in shares of no more than so many, of one size: every second of them, every
    third and so on, so that of what a group projects a share has every second row. In larger ones
    where they would be less than half as large, as of a prime number of channels."""
    size = channels.stop - channels.start
    least = -(-size // most)
    fewer = (k for k in range(least - 1, 0, -1) if size % k == 0)
    count = next((k for k in range(least, 2 * least + 1) if size % k == 0), None) or next(fewer)
    return [slice(channels.start + i, channels.stop, count) for i in range(count)]


def groups_of(
    op: HyenaOperator, batch: int, length: int, memory: int, dtype: torch.dtype
) -> list[slice]:
    """The channels of each group where gradients are made, so that what it makes takes so many
    bytes, if they are enough for an eighth of the channels. The largest one is first, whose memory
    the others use."""
    each = bytes_of_channel(op, batch, length, dtype, "gradients")
    found = slices(op.width, each, max(memory, -(-op.width // MOST_PARTS) * each))
    return sorted(found, key=lambda part: part.start - part.stop)


def bytes_of_channel(
    op: HyenaOperator,
    batch: int,
    length: int,
    dtype: torch.dtype,
    way: Way,
    packed: bool = False,
) -> int:
    """What is made of each channel where the kernel runs: of a share what the convolutions make
    beside the rows that it is given, and with gradients those rows too; and in float32 or wider
    taps, and what a prompt that plans convolves.

    Args: packed: whether the rows are documents, which take the taps of any filter.
    """
    N = op.order
    ends = isinstance(op.filter, LongFilter) and bool(op.filter.finite)  # its taps are few
    rows, rows_wide, taps = {
        "direct": (2 * N - 4, 0, N - 1),
        "steps": (2 * N, N, N - 1),
        "gradients": (3 * N + 3, 0, 4 * (N - 1)) if N > 2 else (6, 0, 3),
    }[way]
    by_modes = sums_modes(op.filter, op.backend, length, kept=True)
    if ends:
        taps = 0
        rows, rows_wide = (2 * N + 2, 0) if way == "steps" else (rows, rows_wide)
    elif by_modes and way != "gradients" and not packed:
        taps = 0
        if way == "direct":  # whose output does not take the place of an input
            rows = N + 1 if N > 2 else 1
    of_rows = rows * dtype.itemsize + rows_wide * wide(dtype).itemsize
    return (batch * of_rows + taps * wide(dtype).itemsize) * length


def like_of(op: HyenaOperator, u: Input) -> Tensor:
    """No numbers, of the device and dtype that u is projected to. Raises: ValueError if the
    operator's weights are of another dtype."""
    first = u.read(slice(0, 1), slice(0, 1))
    check_dtype("HyenaOperator", first, op.in_proj.weight.dtype)
    return first.new_empty(0, dtype=dtype_of_product(first))


def filter_of(
    op: HyenaOperator, length: int, segments: Segments | None, planned: int = 0
) -> ChannelTaps:
    """The filter's taps for rows of this length, for use by groups; of one that ends no zeros
    beyond."""
    filter = op.filter
    reach = length if segments is None else max(segments.reach(filter.limit), 1)
    if isinstance(filter, LongFilter) and filter.finite:
        filter.check_growth(reach + planned)
        return ChannelTaps(filter.all_taps)
    return filter.by_channels(reach + planned)


class Between(NamedTuple):
    """What lies between the projections, valid as long as the buffers are not used again.

    Attributes:
        y: what the output projection is given, (B, D, L).
        beside: (B, E, L), rows of the same array that nobody needs any longer.
        state: of a prefill.
    """

    y: Tensor
    beside: Tensor
    state: HyenaState | None


def between_projections(
    op: HyenaOperator,
    u: Input,
    mask: Tensor | None,
    segments: Segments | None,
    room: Room | None,
    memory: int,
    buffers: Buffers,
    beside: int = 0,
) -> Between:
    """What the output projection is given; and of a prefill the state.

    Args:
        mask, segments: as in `hyena.mixers.Mixer.forward`, not both.
        room: of a prefill.
        memory: bytes that a group may take.
        beside: rows that the array is to have beside the output, if these are more.
    """
    B, L, D = u.batch, u.length, op.width
    check_mask("HyenaOperator", mask, B, L)
    op.check_span(L, mask, segments)
    if room is None:
        check_gaps("HyenaOperator", mask, segments)
    else:
        check_left_padding("HyenaOperator", mask)
    planned = 0 if room is None else planned_for(op.filter, L, room)
    like = like_of(op, u)
    direct = mask is None and room is None
    way: Way = "direct" if direct else "steps"
    layout = layout_of(op, B, L + planned, memory, like.dtype, way, segments is not None)
    beside = max(beside, layout.beside)
    rows = buffers.take("rows", (B, beside + D, L), like)
    y = rows[:, beside:]
    left = None if room is None else Left(op, B, L, planned, room, like)
    by_modes = op.sums_modes(like, L, segments)
    filter = None if by_modes else filter_of(op, L, segments, planned)

    for channels in layout.groups:
        size, end = channels.stop - channels.start, beside + channels.stop
        z = rows[:, end - (op.order + 1) * size : end]
        project(u, rows_of(op, op.in_proj.weight, channels), z)
        shares = shares_of(channels, layout.share)
        for i, share in enumerate(shares):
            group, own = Group(op, share), z[:, i :: len(shares)]
            if filter is None:
                kernels = op.modes(L, share)
            else:
                kernels = list(zip(filter.taps(share), group.skip, strict=True))
            if direct:
                group.convolve(own, kernels, segments, y[:, share])
            else:
                group.recur(own, kernels, mask, planned, left, y[:, share])
            del kernels  # before there are others
    return Between(y, rows[:, :beside], None if left is None else left.state())


def rows_of(op: HyenaOperator, x: Tensor, channels: slice) -> Tensor:
    """Of ((N + 1)·D, …), gates and value, those of some channels: (C, …)."""
    return x.unflatten(0, (op.order + 1, op.width))[:, channels].flatten(0, 1)


def project(u: Input, weight: Tensor, z: Tensor) -> None:
    """weight (C, D) times u, to z (B, C, L)."""
    weight = weight.detach().to(z.dtype)
    # Rows are L apart, also where that is a power of two: products of pieces of positions are as
    # fast as with the larger distance of `operator.project`.
    for rows, positions in u.pieces:
        for x, to in zip(u.read(rows, positions).to(z.dtype), z[rows], strict=True):
            torch.mm(weight, x.t(), out=to[:, positions])


class Group:
    """Some of an operator's channels, with their part of what lies between the projections:
    ``bias`` (C,) of the first one, ``short``, taps (C, K) and bias (C,), ``skip`` (F, G); zeros for
    those that it lacks."""

    def __init__(self, op: HyenaOperator, channels: slice) -> None:
        self.op, self.channels = op, channels
        self.bias = rows_of(op, bias_of(op.in_proj), channels)
        short = op.short_conv.weight, bias_of(op.short_conv)
        self.short = rows_of(op, short[0], channels), rows_of(op, short[1], channels)
        self.skip = op.filter.direct[:, channels]

    def convolve(
        self, z: Tensor, kernels: list[Kernel], segments: Segments | None, out: Tensor
    ) -> None:
        """What the output projection is given of these channels, to ``out`` (B, G, L), which may
        be the memory of the last G rows of z; of z (B, C, L), which lacks its bias and is written
        to."""
        layers = self.bias, *self.short
        if self.op.direct and are_taps(kernels) and operator.takes(z, layers, kernels):
            operator.of_projected(z, self.bias, self.short, kernels, segments=segments, out=out)
        else:
            z += self.bias[:, None].to(z.dtype)
            out.copy_(self.op.between(z, self.short, kernels, segments))

    def recur(
        self,
        z: Tensor,
        kernels: list[Kernel],
        mask: Tensor | None,
        planned: int,
        left: "Left | None",
        out: Tensor,
    ) -> None:
        """The same where there is padding, or a prompt, which leaves something behind."""
        z += self.bias[:, None].to(z.dtype)
        if mask is not None:
            z.masked_fill_(~mask[:, None], 0)
        room = None if left is None else left.room
        short = short_conv(z, *self.short)
        made = self.op.recurrence(short, kernels, mask, None, room, planned)
        if left is not None:
            left.add(self.channels, z, made)
        out.copy_(made.y)


def _leaves_by_channels(filter: Filter) -> bool:
    """Whether what a prompt leaves behind can be found of some channels alone."""
    return not isinstance(filter, LongFilter) or filter.has_ranged_states


class Left:
    """What a prompt leaves behind, group after group."""

    def __init__(
        self, op: HyenaOperator, batch: int, length: int, planned: int, room: Room, like: Tensor
    ) -> None:
        self._op, self.room = op, room
        convolutions, tail = op.order - 1, min(op.short_width - 1, length)
        self._short = like.new_empty(batch, op.order + 1, op.width, tail)
        pending = convolutions, batch, op.width, planned
        self._pending = like.new_empty(pending, dtype=wide(like.dtype))
        inputs = batch, convolutions * op.width, length
        filter = op.filter
        self._filter = filter if isinstance(filter, LongFilter) and filter.constant else None
        self._left: Tensor | None = None  # of filters whose state is of one size
        kept = None if self._filter is not None else room.kept_dtype(like.dtype)
        self._keeps = kept is not None
        # Where they are not kept, only their length counts.
        with normal_tensors():
            memory = like.new_empty(inputs if self._keeps else 1, dtype=kept)
            self._inputs = memory.expand(inputs)

    def add(self, channels: slice, z: Tensor, made: Convolved) -> None:
        """Of these channels z (B, C, L), what the short convolution is given, and what the rest
        made of it."""
        tail = z[..., z.shape[-1] - self._short.shape[-1] :]
        self._short[:, :, channels] = tail.unflatten(1, (self._op.order + 1, -1))
        for to, x in zip(self._pending, made.pending, strict=False):
            to[:, channels] = x
        if self._keeps:
            for to, x in zip(self._inputs.split(self._op.width, dim=1), made.inputs, strict=True):
                to[:, channels] = x
        if self._filter is not None:
            left = left_behind(self._filter, made, self._op.backend, channels=channels)
            if self._left is None:
                with normal_tensors():
                    shape = *left.shape[:2], self._op.width, *left.shape[3:]
                    self._left = left.new_empty(shape)
            self._left[:, :, channels] = left

    def state(self) -> HyenaState:
        """The state after the prompt, all channels added."""
        op, pending = self._op, list(self._pending) if self._pending.shape[-1] else []
        short, length = self._short.flatten(1, 2), self._inputs.shape[-1]
        if self._filter is not None:
            assert self._left is not None
            with normal_tensors():
                long = of_one_size(self._filter, self._left)
            return state_of(short, op.short_width, long, length)
        made = Convolved(short, self._inputs, pending)
        return state_after(op.filter, short, op.short_width, length, made, self.room, op.backend)
