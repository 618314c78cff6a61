"""One position of a Hyena operator at a time, in one call of the kernel.

Sizes: B batch, D width, N order, C = (N+1)·D channels of the short convolution, J its taps,
F = N − 1 long convolutions, S positions of a block.
"""

import ctypes
from collections.abc import Iterable

import torch
from torch import Tensor

from hyena.ops.native import library
from hyena.ops.native.interface import Online, Step


class NativeStep:
    """What lies between an operator's projections, position by position of a block.

    It keeps the addresses of what it is given, so that a step costs one call. All of it is float32,
    contiguous and on the CPU.

    Args:
        short: (J, C), taps of the short convolution by lag, and its bias (C,).
        near: (F, S, D), taps of the long convolutions by lag, those of lag 0 with the skip.
        recent: (S, F, B, D), where a step writes the inputs of the long convolutions.
        due: (S, F, B, D), what is known of their outputs; a step adds to those from its row on.
    """

    def __init__(
        self, short: tuple[Tensor, Tensor], near: Tensor, recent: Tensor, due: Tensor
    ) -> None:
        kernel = library.kernel()
        assert kernel is not None
        taps, bias = short
        _, parts, batch, width = recent.shape
        self._call = kernel.step
        self._keep = (taps, bias, near, recent, due)
        self._row = 4 * batch * width  # bytes of a position of one convolution
        self._begin = recent.data_ptr(), due.data_ptr()
        self._convolutions = (Online * parts)(
            *(Online(taps=part.data_ptr()) for part in near.unbind())
        )
        self._before = (ctypes.c_void_p * (taps.shape[0] - 1))()
        self._step = Step(
            batch=batch,
            channels=width,
            order=parts + 1,
            short_taps=taps.shape[0],
            before=ctypes.addressof(self._before),
            taps=taps.data_ptr(),
            bias=bias.data_ptr(),
            conv=self._convolutions,
            row_stride=parts * batch * width,
        )
        self._argument = ctypes.byref(self._step)

    def __call__(self, z: Tensor, before: Iterable[Tensor], row: int, rest: int) -> Tensor:
        """The input of the output projection, (B, D).

        Args: z (B, C) and the J − 1 before it, the latest first; the position in the block, and how
            many there are from it on.
        """
        step, convolutions = self._step, self._convolutions
        for i, x in enumerate(before):
            self._before[i] = x.data_ptr()
        recent, due = (begin + row * len(convolutions) * self._row for begin in self._begin)
        for i, conv in enumerate(convolutions):
            conv.input, conv.due = recent + i * self._row, due + i * self._row
        y = torch.empty(step.batch, step.channels)
        step.z, step.y, step.rest = z.data_ptr(), y.data_ptr(), rest
        if self._call(self._argument):
            raise MemoryError("the native kernel found no memory for a step")
        return y
