"""One position of a Hyena operator at a time, in one call of the kernel.

The projections of the operator are part of the call, or done outside of it.

Sizes: B batch, D width, N order, C = (N+1)·D channels of the short convolution, J its taps,
F = N − 1 long convolutions, S positions of a block.
"""

import ctypes
from collections.abc import Callable, Sequence
from ctypes import pointer
from typing import NamedTuple

import torch
from torch import Tensor

from hyena.ops.native import library
from hyena.ops.native._abi import DTYPES, Dtype, Linear, Online, Step
from hyena.ops.native._call import in_order
from hyena.ops.native.linear import Layer
from hyena.ops.observed import unobserved

Layers = tuple[Layer, Layer]
"""Input and output projection of an operator, which the kernel takes."""

Pending = tuple[Step, Tensor]
"""The argument of a call to be made, and z, where that call will have written it."""


class NativeStep(NamedTuple):
    """One position of an operator: an `OnlineStep` or `RecurrentStep`, and where in its block the
    position is."""

    step: "_Step"
    where: Callable[[], tuple[int, ...]]

    def __call__(
        self, u: Tensor, before: Sequence[Tensor], layers: Layers | None
    ) -> tuple[Tensor, Tensor]:
        """As `OnlineStep`."""
        return self.step(u, before, layers, *self.where())

    def pending(self, u: Tensor, before: Sequence[Tensor], layers: Layers) -> Pending:
        """For a call that gives the first projection what is like u, and takes what the last one
        makes."""
        return self.step.pending(u, before, layers, *self.where())


def takes(*memory: Tensor) -> bool:
    """Whether the kernel takes a step with this memory as it is: its addresses say nothing of the
    dtype or the device."""
    fits = all(x.dtype == torch.float32 and x.is_cpu for x in memory)
    return library.kernel() is not None and fits and unobserved(*memory)


def reads(z: Tensor) -> bool:
    """Whether the kernel reads z, what a projection made where nobody looks on."""
    return type(z) is Tensor and z.is_cpu and z.dtype in DTYPES


class _Step:
    """What the two kinds of steps have in common.

    It keeps the addresses of what it is given, so that a step costs one call. All of it is float32,
    contiguous and on the CPU. So are the layers', until a step is given other ones: the same pair
    of pairs stands for the same dtype and memory.

    Args: B, D; ``short``, taps of the short convolution by lag, (J, C), and its bias (C,); the long
        convolutions; what else has to stay in memory.
    """

    def __init__(
        self,
        batch: int,
        width: int,
        short: tuple[Tensor, Tensor],
        convolutions: list[Online],
        *keep: Tensor,
    ) -> None:
        (taps, inputs), wide = short[0].shape, Dtype.FLOAT32
        self._call, self._keep = library.loaded().step, (short, keep)
        self._convolutions = (Online * len(convolutions))(*convolutions)
        self._before = (ctypes.c_void_p * (taps - 1))()
        self._step = Step(
            batch=batch,
            channels=width,
            order=len(convolutions) + 1,
            short_taps=taps,
            taps=short[0].data_ptr(),
            bias=short[1].data_ptr(),
            before=ctypes.addressof(self._before),
            conv=self._convolutions,
        )
        self._argument = ctypes.byref(self._step)
        self._z, self._y = (
            torch.empty(batch, size, dtype=torch.float32, device="cpu") for size in (inputs, width)
        )
        self._shapes = (inputs, width), (width, width)  # of the projections' weights
        self._first = Linear(batch, width, inputs, wide, wide, wide)
        self._last = Linear(batch, width, width, wide, wide, wide, self._y.data_ptr())
        self._layers: Layers | None = None  # what these two are set to
        self._earlier: Sequence[Tensor] = ()

    def __call__(
        self, u: Tensor, before: Sequence[Tensor], layers: Layers | None, *where: int
    ) -> tuple[Tensor, Tensor]:
        """One position.

        Args:
            u: (B, D); or, without ``layers``, z (B, C), which the input projection made of it.
            before: the J − 1 z before, the latest first, float32.
            layers: input and output projection.
            where: the position in the block, and how many there are from it on; of an `OnlineStep`.

        Returns: what the output projection made, or without it its input, (B, D); and z.
        """
        u = in_order(u)
        if layers is not None:
            step, z = self.pending(u, before, layers, *where)
            y = torch.empty_like(self._y, dtype=u.dtype)
            self._first.x, self._last.y = u.data_ptr(), y.data_ptr()
        else:
            if self._layers is not None:
                self._point(u, None)
            z = u if u.dtype == torch.float32 else u.float()
            if z.shape != self._z.shape:
                raise _misfit(tuple(z.shape), tuple(self._z.shape))
            y, step = torch.empty_like(self._y), self._step
            step.z, step.y = z.data_ptr(), y.data_ptr()
            self._place(before, *where)
        if self._call(self._argument):
            raise MemoryError("the native kernel found no memory for a step")
        return y, z

    def pending(self, u: Tensor, before: Sequence[Tensor], layers: Layers, *where: int) -> Pending:
        """As of `NativeStep`."""
        if layers is not self._layers:
            self._point(u, layers)
        z = torch.empty_like(self._z)
        self._first.y = self._step.z = z.data_ptr()
        self._place(before, *where)
        return self._step, z

    def _place(self, before: Sequence[Tensor], *where: int) -> None:
        """Goes to a position."""
        self._earlier = before  # a call that is pending reads it later
        for i, earlier in enumerate(before):
            self._before[i] = earlier.data_ptr()

    def _point(self, u: Tensor, layers: Layers | None) -> None:
        """Makes these the layers of a step from u, which has the dtype of them all."""
        step, self._layers = self._step, None
        if layers is None:
            step.in_proj = step.out_proj = None
            return
        (weight, bias), (last_weight, last_bias) = layers
        if (weight.shape, last_weight.shape) != self._shapes or u.shape != self._y.shape:
            got = tuple(weight.shape), tuple(last_weight.shape), tuple(u.shape)
            raise _misfit(got, (*self._shapes, tuple(self._y.shape)))
        first, last, code = self._first, self._last, DTYPES[u.dtype]
        first.dtype = first.x_dtype = last.dtype = last.y_dtype = code
        first.weight, last.weight = weight.data_ptr(), last_weight.data_ptr()
        first.bias = None if bias is None else bias.data_ptr()
        last.bias = None if last_bias is None else last_bias.data_ptr()
        step.in_proj, step.out_proj, step.y = pointer(first), pointer(last), self._y.data_ptr()
        self._layers = layers


def _misfit(got: object, expected: object) -> ValueError:
    """The addresses alone would not tell."""
    return ValueError(
        f"HyenaOperator.step: the projections do not fit the operator; expected {expected}, got "
        f"{got}"
    )


class OnlineStep(_Step):
    """What lies between an operator's projections, position by position of a block.

    Args:
        short: (J, C) and (C,), taps of the short convolution by lag and its bias.
        filter: (F, S, 1, D), taps of the long convolutions by lag, those of lag 0 with the skip.
        recent: (S, F, B, D), where a step writes the inputs of the long convolutions.
        due: (S, F, B, D), what is known of their outputs; a step adds to those from its row on.
    """

    def __init__(
        self, short: tuple[Tensor, Tensor], filter: Tensor, recent: Tensor, due: Tensor
    ) -> None:
        _, parts, batch, width = recent.shape
        convolutions = [Online(taps=part.data_ptr()) for part in filter.unbind()]
        super().__init__(batch, width, short, convolutions, filter, recent, due)
        self._each = list(self._convolutions)
        self._row = 4 * batch * width  # bytes of a position of one convolution
        self._recent, self._due = recent.data_ptr(), due.data_ptr()
        self._step.row_stride = parts * batch * width

    def _place(self, before: Sequence[Tensor], *where: int) -> None:
        super()._place(before)
        row, self._step.rest = where
        at = row * len(self._each) * self._row
        for conv in self._each:
            conv.input, conv.due = self._recent + at, self._due + at
            at += self._row


class RecurrentStep(_Step):
    """What lies between an operator's projections, where the long convolutions are recurrences.

    Args:
        short: (J, C) and (C,), taps of the short convolution by lag and its bias.
        filter, weight: (F, 2, n/2, 1, D), decay and weight, real parts and imaginary ones.
        skip: (F, D).
        states: (F, 2, n/2, B, D), real parts and imaginary ones, which a step moves on.
    """

    def __init__(
        self,
        short: tuple[Tensor, Tensor],
        filter: Tensor,
        weight: Tensor,
        skip: Tensor,
        states: Tensor,
    ) -> None:
        _, _, modes, batch, width = states.shape
        convolutions = [
            Online(
                x=x.data_ptr(),
                decay=a.data_ptr(),
                weight=w.data_ptr(),
                skip=s.data_ptr(),
                modes=modes,
            )
            for x, a, w, s in zip(states, filter, weight, skip, strict=True)
        ]
        super().__init__(batch, width, short, convolutions, filter, weight, skip, states)
