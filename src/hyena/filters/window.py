"""The network's last layer under the decaying window, (channels, positions)."""

import torch
from torch import Tensor

from hyena.filters.parts import BLOCK, by_parts, parts


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
    compiling = torch.compiler.is_compiling()  # which fuses the exponential with the product
    fine = [time[:BLOCK]] if even and not compiling else []

    def piece(x: Tensor, time: Tensor, weight: Tensor, decay: Tensor, *fine: Tensor) -> Tensor:
        return weight @ x * window(decay, time, shift, *fine)

    slices = [] if compiling else parts(x.shape[1], weight.shape[0], x.device)
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
