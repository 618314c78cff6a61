"""The network's last layer under the decaying window, (channels, positions)."""

from typing import Any

import torch
from torch import Tensor

from hyena.filters.parts import BLOCK, parts


def windowed(
    weight: Tensor, x: Tensor, decay: Tensor, time: Tensor, shift: float, *, even: bool
) -> Tensor:
    r"""``(weight @ x) · (exp(−decay · |time|) + shift)``, of a long window only a part at a time.

    Args:
        weight: (C, W).
        x: (W, L).
        decay: (C,).
        time: (L,), a constant.
        even: the times are 0, a, 2a, …: most of the exponentials become products.

    Returns: (C, L). Differentiable in weight, x and decay, twice, in forward mode and under
        torch.func.
    """
    if torch.compiler.is_compiling():  # which fuses the exponential with the product
        return _whole(weight, x, decay, time, shift, even=False)
    if len(parts(x.shape[1], weight.shape[0], x.device)) == 1:
        return _whole(weight, x, decay, time, shift, even=even)
    return Windowed.apply(weight, x, decay, time, shift, even)


class Window:
    """``exp(−decay · |time|) + shift`` at a slice of the positions, (C, slice)."""

    def __init__(self, decay: Tensor, time: Tensor, shift: float, *, even: bool) -> None:
        self.rates, self.time, self.shift = -decay[:, None], time, shift
        self.factors: tuple[Tensor, Tensor] | None = None
        if even:  # at n = 64·i + j: exp(−a·n) = exp(−a·64·i) · exp(−a·j)
            coarse, fine = time[::BLOCK], time[:BLOCK]
            self.factors = torch.exp(self.rates * coarse), torch.exp(self.rates * fine)

    def __call__(self, part: slice) -> Tensor:
        window = self.unshifted(part)
        return window + self.shift if self.shift else window

    def unshifted(self, part: slice) -> Tensor:
        if self.factors is None:
            return torch.exp(self.rates * self.time[part].abs())
        coarse, fine = self.factors
        blocks = coarse[:, part.start // BLOCK : -(-part.stop // BLOCK)]
        window = (blocks[:, :, None] * fine[:, None]).flatten(1)
        return window[:, : part.stop - part.start]


def _whole(
    weight: Tensor, x: Tensor, decay: Tensor, time: Tensor, shift: float, *, even: bool
) -> Tensor:
    window = Window(decay, time, shift, even=even)
    return weight @ x * window(slice(0, x.shape[1]))


class Windowed(torch.autograd.Function):
    """`windowed` by parts; the window is computed again in the backward pass.

    Its derivatives are written without changes in place: they are differentiated and mapped too.
    """

    @staticmethod
    def forward(
        weight: Tensor, x: Tensor, decay: Tensor, time: Tensor, shift: float, even: bool
    ) -> Tensor:
        C, L = weight.shape[0], x.shape[1]
        window = Window(decay, time, shift, even=even)
        h = torch.empty(C, L, dtype=weight.dtype, device=weight.device)
        for part in parts(L, C, h.device):
            piece = h[:, part]
            torch.mm(weight, x[:, part], out=piece)
            piece.mul_(window(part))
        return h

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, ctx.shift, ctx.even = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, dh: Tensor) -> tuple[Any, ...]:
        weight, x, decay, time = ctx.saved_tensors
        need_weight, need_x, need_decay = ctx.needs_input_grad[:3]
        window = Window(decay, time, ctx.shift, even=ctx.even)
        dweight, dx, ddecay = 0.0, [], 0.0
        for part in parts(x.shape[1], weight.shape[0], x.device):
            d, piece = dh[:, part], x[:, part]
            if need_decay:
                slope = d * (weight @ piece) * window.unshifted(part)
                ddecay = ddecay - slope @ time[part].abs()
            d = d * window(part)
            if need_weight:
                dweight = dweight + d @ piece.t()
            if need_x:
                dx.append(weight.t() @ d)
        return (
            dweight if need_weight else None,
            torch.cat(dx, dim=1) if need_x else None,
            ddecay if need_decay else None,
            *(None, None, None),
        )

    @staticmethod
    def jvp(ctx: Any, dweight: Any, dx: Any, ddecay: Any, *_: Any) -> Tensor:
        weight, x, decay, time = ctx.saved_tensors
        window = Window(decay, time, ctx.shift, even=ctx.even)
        everywhere = slice(0, x.shape[1])
        dh = torch.zeros_like(weight[:, :1] * x[:1])
        if dweight is not None:
            dh = dh + dweight @ x * window(everywhere)
        if dx is not None:
            dh = dh + weight @ dx * window(everywhere)
        if ddecay is not None:
            slope = window.unshifted(everywhere) * time.abs()
            dh = dh - weight @ x * slope * ddecay[:, None]
        return dh

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Tensor, int]:
        *tensors, shift, even = inputs

        def whole(weight: Tensor, x: Tensor, decay: Tensor, time: Tensor) -> Tensor:
            return _whole(weight, x, decay, time, shift, even=even)

        return torch.func.vmap(whole, in_dims[:4])(*tensors), 0
