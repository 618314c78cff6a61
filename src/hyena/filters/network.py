"""Linear layers with a sine after each, on (features, positions)."""

from typing import Any

import torch
from torch import Tensor

from hyena.filters.parts import parts

Layer = tuple[Tensor, Tensor]  # weight (out, in), bias (out,)

# Up to this size the layers' values are kept for the backward pass; beyond, they are recomputed.
KEPT_BYTES = 1 << 26


def sine_network(x: Tensor, layers: list[Layer]) -> Tensor:
    """sin(weight @ x + bias) for each layer in turn: (in, L) → (out, L).

    Differentiable, twice, in forward mode and under torch.func.
    """
    if torch.compiler.is_compiling():
        return _sines(x, layers)
    if not torch.is_grad_enabled():
        return _sines_by_parts(x, layers)
    kept = 2 * sum(bias.shape[0] for _, bias in layers) * x.shape[1] * x.element_size()
    if kept <= KEPT_BYTES:
        return _sines(x, layers)
    return Recomputed.apply(x, *(tensor for layer in layers for tensor in layer))


def _sines(x: Tensor, layers: list[Layer]) -> Tensor:
    for weight, bias in layers:
        x = torch.addmm(bias[:, None], weight, x).sin()
    return x


def _sines_by_parts(x: Tensor, layers: list[Layer]) -> Tensor:
    """The same without gradients: in place."""
    y = []
    for part in _parts(x, layers):
        piece = x[:, part]
        for weight, bias in layers:
            piece = torch.addmm(bias[:, None], weight, piece).sin_()
        y.append(piece)
    return y[0] if len(y) == 1 else torch.cat(y, dim=1)


def _parts(x: Tensor, layers: list[Layer]) -> list[slice]:
    return parts(x.shape[1], max(bias.shape[0] for _, bias in layers), x.device)


class Recomputed(torch.autograd.Function):
    """`sine_network` that keeps nothing but its inputs.

    Its derivatives are written without changes in place: they are differentiated and mapped too.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, *flat: Tensor) -> Tensor:
        return _sines_by_parts(x, _pairs(flat))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
        x, *flat = ctx.saved_tensors
        layers = _pairs(flat)
        need_x = ctx.needs_input_grad[0]
        dx: list[Tensor] = []
        gradients: list[Any] = [0.0] * len(flat)
        for part in _parts(x, layers):
            inputs, phases = [x[:, part]], []
            for weight, bias in layers:
                phases.append(torch.addmm(bias[:, None], weight, inputs[-1]))
                inputs.append(phases[-1].sin())
            d = dy[:, part]
            for i in reversed(range(len(layers))):
                d = d * phases[i].cos()
                gradients[2 * i] = gradients[2 * i] + d @ inputs[i].t()
                gradients[2 * i + 1] = gradients[2 * i + 1] + d.sum(1)
                if i > 0 or need_x:
                    d = layers[i][0].t() @ d
            dx.append(d)
        return (torch.cat(dx, dim=1) if need_x else None, *gradients)

    @staticmethod
    def jvp(ctx: Any, dx: Any, *tangents: Any) -> Any:
        x, *flat = ctx.saved_tensors
        for (weight, bias), (dweight, dbias) in zip(_pairs(flat), _pairs(tangents), strict=True):
            phase = torch.addmm(bias[:, None], weight, x)
            d = torch.zeros_like(phase)
            if dx is not None:
                d = d + weight @ dx
            if dweight is not None:
                d = d + dweight @ x
            if dbias is not None:
                d = d + dbias[:, None]
            x, dx = phase.sin(), d * phase.cos()
        return dx


def _pairs(flat: Any) -> list[Any]:
    return list(zip(flat[::2], flat[1::2], strict=True))
