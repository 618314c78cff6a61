"""Linear layers with a sine after each, on (features, positions)."""

import torch
from torch import Tensor

from hyena.filters.parts import by_parts, parts

# Up to this size the layers' values are kept for the backward pass; beyond, they are recomputed.
KEPT_BYTES = 1 << 26


def sine_network(x: Tensor, layers: list[tuple[Tensor, Tensor]]) -> Tensor:
    """sin(weight @ x + bias) for each layer, (out, in) and (out,), in turn: (in, L) → (out, L).

    Differentiable, twice, in forward mode and under torch.func.
    """
    flat = [tensor for layer in layers for tensor in layer]
    widths, length = [bias.shape[0] for _, bias in layers], x.shape[1]
    kept = 2 * sum(widths) * length * x.element_size()
    if torch.compiler.is_compiling() or (torch.is_grad_enabled() and kept <= KEPT_BYTES):
        return _sines(x, *flat)
    return by_parts(_sines, parts(length, max(widths), x.device), 1, x, *flat)


def _sines(x: Tensor, *flat: Tensor) -> Tensor:
    for weight, bias in zip(flat[::2], flat[1::2], strict=True):
        phase = torch.addmm(bias[:, None], weight, x)
        x = phase.sin() if torch.is_grad_enabled() else phase.sin_()
    return x
