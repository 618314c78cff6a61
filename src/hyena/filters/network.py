"""The filter's network: linear layers with a sine after each, and the last one under the decaying
window; on (features, positions)."""

import torch
from torch import Tensor

from hyena.filters.parts import BLOCK, by_parts, parts
from hyena.ops.observed import compiling

# Up to this size the layers' values are kept for the backward pass; beyond, they are recomputed.
KEPT_BYTES = 1 << 26


def sine_network(x: Tensor, layers: list[tuple[Tensor, Tensor]]) -> Tensor:
    """sin(weight @ x + bias) for each layer, (out, in) and (out,), in turn: (in, L) → (out, L).

    Differentiable, twice, in forward mode and under torch.func.
    """
    flat = [tensor for layer in layers for tensor in layer]
    widths, length = [bias.shape[0] for _, bias in layers], x.shape[1]
    kept = 2 * sum(widths) * length * x.element_size()
    if compiling() or (torch.is_grad_enabled() and kept <= KEPT_BYTES):
        return _sines(x, *flat)
    return by_parts(_sines, parts(length, max(widths), x.device), 1, x, *flat)


def _sines(x: Tensor, *flat: Tensor) -> Tensor:
    for weight, bias in zip(flat[::2], flat[1::2], strict=True):
        phase = torch.addmm(bias[:, None], weight, x)
        x = phase.sin() if torch.is_grad_enabled() else phase.sin_()
    return x


def windowed(
    weight: Tensor, x: Tensor, decay: Tensor, time: Tensor, shift: float, *, even: bool
) -> Tensor:
    r"""``(weight @ x) · window``, of a long window only a part at a time.

    Args:
        weight: (C, W).
        x: (W, L).
        decay, time, shift: of the `window`.
        even: the times are 0, a, 2a, ….

    Returns: (C, L). Differentiable in weight, x and decay, twice, in forward mode and under
        torch.func.
    """
    whole = compiling()  # which fuses the exponential with the product
    fine = [time[:BLOCK]] if even and not whole else []

    def piece(x: Tensor, time: Tensor, weight: Tensor, decay: Tensor, *fine: Tensor) -> Tensor:
        return weight @ x * window(decay, time, shift, *fine)

    slices = [] if whole else parts(x.shape[1], weight.shape[0], x.device)
    if len(slices) < 2:
        return piece(x, time, weight, decay, *fine)
    return by_parts(piece, slices, 2, x, time, weight, decay, *fine)


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
        coarse, within = torch.exp(rates * time[::BLOCK]), torch.exp(rates * fine)
        closing = (coarse[:, :, None] * within[:, None]).flatten(1)[:, : time.shape[0]]
    return closing + shift if shift else closing
