"""The long convolutions of a Hyena operator on rows that are cut.

A long filter reaches through all pieces, but each channel has its own: so a piece of all channels
is exchanged for all positions of some, which are convolved with their taps alone, and back. A
filter of few taps reaches back a few positions, which the pieces before send; one of few
exponentials goes on from a state. Gates stay where they are.

Sizes: B batch, D width, L length of the whole rows, p positions of a piece, G channels that are
convolved at once, c of these, T tokens to come.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from hyena.distributed import carry, halo
from hyena.distributed.exchange import all_channels, to_channels, to_positions
from hyena.distributed.rows import Rows
from hyena.filters import LongFilter
from hyena.filters.filter import ChannelTaps
from hyena.filters.precision import wide
from hyena.mixers import HyenaOperator, HyenaState
from hyena.mixers.hyena.generation import (
    Convolved,
    is_constant,
    left_behind,
    of_one_size,
    planned_for,
    state_after,
    state_of,
)
from hyena.mixers.hyena.groups import filter_of
from hyena.mixers.hyena.kernels import Kernel, finite_taps
from hyena.mixers.mixer import Room
from hyena.ops.stepping.states import normal_tensors

Convolve = Callable[[int, Tensor], Tensor]
"""The long convolution that runs as number i, on a piece: (B, G, p) → (B, G, p)."""


class Convolutions(Protocol):
    """The long convolutions of an operator.

    Attributes: ``shared``, what the filters of all channels are made of, see
        `hyena.filters.filter.ChannelTaps`.
    """

    @property
    def shared(self) -> tuple[Tensor, ...]: ...

    def of(self, channels: slice, shared: Sequence[Tensor] | None) -> Convolve:
        """Those of a range of the channels, whose filters are made of ``shared`` if it is given."""


def convolutions(op: HyenaOperator, rows: Rows) -> Convolutions:
    """Those of a forward pass, by what sends less."""
    filter, taps = op.filter, finite_taps(op.filter)
    if taps and halo.is_less(taps, rows):
        return ByHalo(op, rows, taps)
    if isinstance(filter, LongFilter) and rows.segments is None:
        exponentials = filter.exponentials()
        if exponentials is not None and carry.is_less(exponentials[0], rows):
            return ByCarry(op, rows, *exponentials)
    return ByChannels(op, rows)


class ByHalo:
    """Filters of few taps, behind the last positions of the pieces before.

    Args: the operator; the rows; K, the taps of its filters.
    """

    def __init__(self, op: HyenaOperator, rows: Rows, taps: int) -> None:
        self._op, self._rows, self._reach = op, rows, taps - 1
        self._taps = filter_of(op, rows.length, rows.segments)
        self.shared = self._taps.shared

    def of(self, channels: slice, shared: Sequence[Tensor] | None) -> Convolve:
        op, kernels = self._op, _kernels(self._op, self._taps, channels, shared)

        def convolve(i: int, v: Tensor) -> Tensor:
            v, before, segments = halo.with_halo(v, self._rows, self._reach)
            return op.convolve(v, kernels[i], segments)[..., before:]

        return convolve


class ByCarry:
    """Filters that are sums of exponentials, each process with its piece of all channels.

    Args: the operator; the rows; exponent and weight, as of `hyena.filters.LongFilter`.
    """

    def __init__(self, op: HyenaOperator, rows: Rows, exponent: Tensor, weight: Tensor) -> None:
        self._op, self._rows = op, rows
        op.filter.check_growth(rows.length)
        self._taps = op.filter.by_channels(rows.lengths[rows.rank])
        self.shared = *self._taps.shared, exponent, weight

    def of(self, channels: slice, shared: Sequence[Tensor] | None) -> Convolve:
        *of_taps, exponent, weight = self.shared if shared is None else shared
        exponent, weight = exponent[:, channels], weight[:, channels]
        op, kernels = self._op, _kernels(self._op, self._taps, channels, of_taps)

        def convolve(i: int, v: Tensor) -> Tensor:
            known = carry.from_before(v, exponent[i], weight[i], self._rows)
            y = op.convolve(v, kernels[i], None)
            return (y + known).to(y.dtype)

        return convolve


class ByChannels:
    """Filters of any length, each process with those of some channels.

    Args: the operator; the rows.
    """

    def __init__(self, op: HyenaOperator, rows: Rows) -> None:
        self._op, self._rows = op, rows
        self._taps = filter_of(op, rows.length, rows.segments)
        self.shared = self._taps.shared

    def of(self, channels: slice, shared: Sequence[Tensor] | None) -> Convolve:
        op, rows = self._op, self._rows
        each = range(op.filter.channels)[channels]
        own = each[rows.channels(len(each))[rows.rank]]
        kernels: list[Kernel] = []
        if own:  # there may be fewer channels than processes
            here = slice(own.start, own.stop, own.step)
            kernels = _kernels(op, self._taps, here, shared)

        def convolve(i: int, v: Tensor) -> Tensor:
            x = to_channels(v, rows)
            y = op.convolve(x, kernels[i], rows.segments) if kernels else x
            return to_positions(y, rows, len(each))

        return convolve


def _kernels(
    op: HyenaOperator, taps: ChannelTaps, channels: slice, shared: Sequence[Tensor] | None = None
) -> list[Kernel]:
    """Of each long convolution, of a range of the channels."""
    return list(zip(taps.taps(channels, shared), op.filter.direct[:, channels], strict=True))


class OfPrompt:
    """`ByChannels` of all channels, and what they leave behind, whole on every process.

    Args: the operator; the rows; what a prefill is told of the tokens to come.
    """

    def __init__(self, op: HyenaOperator, rows: Rows, room: Room) -> None:
        self._op, self._rows, self._room = op, rows, room
        self._channels = rows.channels(op.filter.channels)[rows.rank]
        self._planned = planned_for(op.filter, rows.length, room)
        taps = filter_of(op, rows.length, rows.segments, self._planned)
        self._kernels = _kernels(op, taps, self._channels)
        self._inputs: list[Tensor] = []  # of these channels
        self._pending: list[Tensor] = []

    def __call__(self, i: int, v: Tensor) -> Tensor:
        """A `Convolve`."""
        rows, width, L = self._rows, v.shape[1], self._rows.length
        v = to_channels(v, rows)
        self._inputs.append(v.detach())
        if self._planned:
            padded = F.pad(v.to(wide(v.dtype)), (0, self._planned))
            y = self._op.convolve(padded, self._kernels[i], None)
            self._pending.append(y[..., L:].detach())
            y = y[..., :L].to(v.dtype)
        else:
            y = self._op.convolve(v, self._kernels[i], rows.segments)
        return to_positions(y, rows, width)

    def state(self, short: Tensor) -> HyenaState:
        """What is left behind, all convolutions run.

        Args: short: the last inputs of the short convolution of the whole rows, (B, C, ·).
        """
        op, rows, room = self._op, self._rows, self._room
        with normal_tensors():
            if is_constant(op.filter):
                return self._of_one_size(short)
            kept = room.kept_dtype(short.dtype)
            if kept is None:  # of those that are not kept nothing counts but which they are
                empty = short.new_empty(short.shape[0], op.filter.channels, 0)
                inputs = [empty] * len(self._inputs)
            else:
                inputs = self._whole([x.to(kept) for x in self._inputs])
            made = Convolved(short, inputs, self._whole(self._pending))
            taps, L = op.short_width, rows.length
            return state_after(op.filter, short, taps, L, made, room, op.backend)

    def _of_one_size(self, short: Tensor) -> HyenaState:
        op, filter = self._op, self._op.filter
        assert isinstance(filter, LongFilter)
        if filter.has_ranged_states:
            made = Convolved(short, self._inputs)
            left = left_behind(filter, made, op.backend, channels=self._channels)
            left = torch.stack(self._whole(left.unbind(1)), dim=1)
        else:
            made = Convolved(short, self._whole(self._inputs))
            left = left_behind(filter, made, op.backend)
        return state_of(short, op.short_width, of_one_size(filter, left), self._rows.length)

    def _whole(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """Of some channels (B, c, …) → of all, (B, D, …)."""
        return [all_channels(x.contiguous(), self._rows, self._op.filter.channels) for x in parts]
