"""The filter's network: linear layers with a sine after each, and the last one under the decaying
window; on (features, positions)."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from hyena.filters.parts import ALIGNMENT, by_parts, parts
from hyena.ops.observed import compiling, unobserved

# Up to this size the layers' values are kept for the backward pass; beyond, they are recomputed.
VALUES_BYTES = 1 << 26


def sine_network(
    x: Tensor, layers: list[tuple[Tensor, Tensor]], encode: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """sin(weight @ x + bias) for each layer, (out, in) and (out,), in turn: (in, L) → (out, L).

    With ``encode`` x is (L,), of which it makes the (in, L), of a long one only a part at a time.
    Differentiable, twice, in forward mode and under torch.func.
    """

    def sines(x: Tensor, *flat: Tensor) -> Tensor:
        return _sines(x if encode is None else encode(x), *flat)

    flat = [tensor for layer in layers for tensor in layer]
    widths, length = [bias.shape[0] for _, bias in layers], x.shape[-1]
    kept = 2 * sum(widths) * length * x.element_size()
    if compiling() or (torch.is_grad_enabled() and kept <= VALUES_BYTES):
        return sines(x, *flat)
    return by_parts(sines, parts(length, max(widths), x.device), 1, x, *flat)


def _sines(x: Tensor, *flat: Tensor) -> Tensor:
    for weight, bias in zip(flat[::2], flat[1::2], strict=True):
        phase = torch.addmm(bias[:, None], weight, x)
        x = phase.sin() if torch.is_grad_enabled() else phase.sin_()
    return x


class LastLayer(NamedTuple):
    """The last layer and its window, from which the taps of some channels are made alone.

    Args:
        weight: (F, D, W).
        x: (W, L), what it multiplies, of the dtype of the taps.
        decay: (F, D), of the `window`, whose sign does not count; none is without window.
        time, shift: of the window.
        even: the times are 0, a, 2a, ….
    """

    weight: Tensor
    x: Tensor
    decay: Tensor | None
    time: Tensor
    shift: float
    even: bool

    def taps(self, channels: slice) -> Tensor:
        """(F, d, L) of a slice of the D channels."""
        return self._windowed(channels).view(self.weight.shape[0], -1, self.x.shape[1])

    def norm(self) -> Tensor:
        """The sum of all absolute taps at each position, (L,), without the memory of all taps."""
        return self._windowed(slice(None), norm=True).squeeze(0)

    def _windowed(self, channels: slice, norm: bool = False) -> Tensor:
        weight = self.weight[:, channels].flatten(0, 1).to(self.x.dtype)
        decay = None
        if self.decay is not None:
            decay = self.decay[:, channels].flatten().to(self.x.dtype).abs()
        time, shift = self.time, self.shift
        return windowed(weight, self.x, decay, time, shift, even=self.even, norm=norm)


def windowed(
    weight: Tensor,
    x: Tensor,
    decay: Tensor | None,
    time: Tensor,
    shift: float,
    *,
    even: bool,
    norm: bool = False,
) -> Tensor:
    r"""``(weight @ x) · window``, of a long window only a part at a time.

    Args:
        weight: (C, W).
        x: (W, L).
        decay, time, shift: of the `window`; no decay is a window of ones.
        even: the times are 0, a, 2a, ….
        norm: sum the absolute values over C.

    Returns: (C, L), or (1, L) of the norm. Differentiable in weight, x and decay, twice, in forward
        mode and under torch.func.
    """
    # A program fuses the exponential with the product; a product alone has nothing else to keep.
    whole = compiling() or (decay is None and not norm)
    rates = [] if decay is None else [decay]
    if rates and even and not whole:
        rates.append(time[:ALIGNMENT])

    def piece(x: Tensor, time: Tensor, weight: Tensor, *rates: Tensor) -> Tensor:
        h = weight @ x
        if rates:
            closing = window(rates[0], time, shift, *rates[1:])
            # Fewer arrays beside the taps: glibc gives one of a size none that was freed of it.
            h = h.mul_(closing) if unobserved(h, closing) else h * closing
        return h.abs().sum(0, keepdim=True) if norm else h

    slices = [] if whole else parts(x.shape[1], weight.shape[0], x.device)
    if len(slices) < 2:
        return piece(x, time, weight, *rates)
    return by_parts(piece, slices, 2, x, time, weight, *rates)


def window(decay: Tensor, time: Tensor, shift: float, fine: Tensor | None = None) -> Tensor:
    """``exp(−decay · |time|) + shift``, (C, L).

    Args:
        decay: (C,).
        time: (L,), a constant.
        fine: if the times are even, from 0 on or from a whole block, those of the first block: most
            of the exponentials become products.
    """
    rates = -decay[:, None]
    if fine is None:
        closing = torch.exp(rates * time.abs())
    else:  # at n = 64·i + j: exp(−a·n) = exp(−a·64·i) · exp(−a·j)
        coarse, within = torch.exp(rates * time[::ALIGNMENT]), torch.exp(rates * fine)
        closing = (coarse[:, :, None] * within[:, None]).flatten(1)[:, : time.shape[0]]
    if not shift:
        return closing
    return closing.add_(shift) if unobserved(closing) else closing + shift
