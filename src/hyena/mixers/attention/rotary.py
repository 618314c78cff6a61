"""Rotary positions: a query or key is turned by an angle that grows with its position.

Sizes: L length, E numbers of a head.
"""

from __future__ import annotations

from weakref import WeakValueDictionary

import torch
from torch import Tensor

from hyena.ops.stepping.states import normal_tensors


class Turns:
    """Cosines and sines of positions 0 … L−1, (L, E) each, as a step takes them."""

    def __init__(self, cos: Tensor, sin: Tensor) -> None:
        with normal_tensors():
            self.cos, self.sin = torch.cat([cos, cos], 1), torch.cat([-sin, sin], 1)

    def turn(self, x: Tensor, position: int) -> Tensor:
        """`rotate` of x (…, E) at one position."""
        other = x.roll(x.shape[-1] // 2, dims=-1)  # of each pair the other one
        return torch.addcmul(x * self.cos[position], other, self.sin[position])


# The layers of a model are at the same positions: one table serves them all, while one of them is
# in use.
_in_use: WeakValueDictionary[tuple[object, ...], Turns] = WeakValueDictionary()


def turns(length: int, base: float, like: Tensor) -> Turns:
    """For positions below ``length``, and queries and keys like that (…, E)."""
    key = length, like.shape[-1], base, like.dtype, like.device
    found = _in_use.get(key)
    if found is None:
        with normal_tensors():
            found = _in_use[key] = Turns(*angles(0, length, base, like))
    return found


def angles(start: int, stop: int, base: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines of t · base^(−2i/E) for positions t from start to stop, (L, E/2) each."""
    dtype, E = torch.promote_types(like.dtype, torch.float32), like.shape[-1]
    t = torch.arange(start, stop, device=like.device).to(dtype)
    i = torch.arange(0, E, 2, device=like.device).to(dtype)
    angle = t[:, None] * base ** (-i / E)
    return angle.cos(), angle.sin()


def rotate(x: Tensor, position: int, base: float) -> Tensor:
    """Turns the pair (x_i, x_{i+E/2}) of x (…, L, E) at position t, the first being ``position``,
    by the angle t · base^(−2i/E)."""
    cos, sin = angles(position, position + x.shape[-2], base, x)
    a, b = x.to(cos.dtype).chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1).to(x.dtype)
