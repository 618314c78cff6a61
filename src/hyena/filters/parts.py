"""Long things are made a part at a time: filters by positions, so that a part stays in cache."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

# Elements (channels · positions) of a part, for each thread: 256k float32 are 1 MiB, about an L2
# cache. On accelerators, where launches cost more than cache misses, everything in one go.
PART_ELEMENTS = 1 << 18
PART_ELEMENTS_DEVICE = 1 << 28
ALIGNMENT = 64  # parts begin at its multiples


def parts(length: int, channels: int, device: torch.device) -> list[slice]:
    """Slices of the positions 0 … length − 1, of about that size, and at least 8 · ALIGNMENT."""
    on_cpu = device.type == "cpu"
    budget = PART_ELEMENTS * torch.get_num_threads() if on_cpu else PART_ELEMENTS_DEVICE
    size = max(budget // (channels * ALIGNMENT), 8) * ALIGNMENT
    return [slice(n, min(n + size, length)) for n in range(0, length, size)]


def slices(count: int, bytes_each: int, memory: int) -> list[slice]:
    """Of ``count`` things that take so many bytes each: slices of nearly one size, each of which
    takes at most ``memory`` if it is more than one thing."""
    if count == 0:
        return []
    number = -(-count // max(1, memory // bytes_each))
    edges = [i * count // number for i in range(number + 1)]
    return [slice(a, b) for a, b in pairwise(edges)]


def by_parts(
    f: Callable[..., Tensor], slices: Sequence[slice], along: int, *tensors: Tensor
) -> Tensor:
    """``f(*tensors)``, (C, L), of which only its inputs are kept for the backward pass.

    Args:
        f: of these tensors alone, and each position of its own position in those that have them.
        slices: the `parts`.
        along: so many tensors, the first ones, have the positions as their last dimension.

    Returns: (C, L). Differentiable, twice, in forward mode and under torch.func.
    """
    run = ByParts.apply if torch.is_grad_enabled() else ByParts.forward
    h: Tensor = run(f, slices, along, *tensors)
    return h


class ByParts(torch.autograd.Function):
    """`by_parts`. Its derivatives are those of f, so they are differentiated and mapped too."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        f: Callable[..., Tensor], slices: Sequence[slice], along: int, *tensors: Tensor
    ) -> Tensor:
        first, *others = slices
        piece = f(*_cut(tensors, along, first))
        if not others:
            return piece
        h = piece.new_empty(piece.shape[0], others[-1].stop)
        h[:, first] = piece
        del piece  # before there are others
        for part in others:
            h[:, part] = f(*_cut(tensors, along, part))
        return h

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.f, ctx.slices, ctx.along, *tensors = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, dh: Tensor) -> tuple[Any, ...]:
        tensors, along = ctx.saved_tensors, ctx.along
        wanted = [i for i in range(len(tensors)) if ctx.needs_input_grad[3 + i]]
        gradients: list[Any] = [None] * len(tensors)
        for part in ctx.slices:
            pieces = _cut(tensors, along, part)

            def of_wanted(*some: Tensor, pieces: list[Tensor] = pieces) -> Tensor:
                given = dict(zip(wanted, some, strict=True))
                return ctx.f(*(given.get(i, piece) for i, piece in enumerate(pieces)))

            _, pull = torch.func.vjp(of_wanted, *(pieces[i] for i in wanted))[:2]
            for i, d in zip(wanted, pull(dh[:, part]), strict=True):
                if i < along:
                    gradients[i] = [*(gradients[i] or []), d]
                else:
                    gradients[i] = d if gradients[i] is None else gradients[i] + d
        joined = [torch.cat(x, dim=-1) if isinstance(x, list) else x for x in gradients]
        return None, None, None, *joined

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        tensors = ctx.saved_tensors
        given = [
            torch.zeros_like(x) if dx is None else dx
            for x, dx in zip(tensors, tangents[3:], strict=True)
        ]
        # Forward mode does not nest: what is linear in dh, differentiated by dh.
        h, pull = torch.func.vjp(ctx.f, *tensors)[:2]
        _, push = torch.func.vjp(pull, torch.zeros_like(h))[:2]
        (dh,) = push(tuple(given))
        return dh


def _cut(tensors: Sequence[Tensor], along: int, part: slice) -> list[Tensor]:
    return [x[..., part] if i < along else x for i, x in enumerate(tensors)]
