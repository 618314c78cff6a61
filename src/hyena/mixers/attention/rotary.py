"""Rotary positions: a query or key is turned by an angle that grows with its position.

Sizes: L length, E numbers of a head.
"""

from __future__ import annotations

import math
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from hyena.filters.precision import widest
from hyena.ops.stepping.states import normal_tensors


class Turns:
    """The angles t/scale · base^(−2i/E) of L positions t from the first on, as cosines and sines,
    (L, E) each, for queries and keys like that (…, E).

    Whole turns are taken off in float64, where there is such: of many a float32 knows few digits.
    """

    def __init__(
        self, length: int, base: float, like: Tensor, first: int = 0, scale: float = 1.0
    ) -> None:
        dtype, E = torch.promote_types(like.dtype, torch.float32), like.shape[-1]
        precise = torch.promote_types(dtype, widest(like.device))
        t = torch.arange(first, first + length, device=like.device).to(precise) / scale
        i = torch.arange(0, E, 2, device=like.device).to(precise)
        turns = t[:, None] * (base ** (-i / E) / (2 * math.pi))
        angle = (2 * math.pi * (turns - turns.round())).to(dtype)
        cos, sin = angle.cos(), angle.sin()
        self.cos, self.sin = torch.cat([cos, cos], 1), torch.cat([-sin, sin], 1)

    def turn(self, x: Tensor, at: int | slice | Tensor = slice(None)) -> Tensor:
        """Turns the pair (x_i, x_{i+E/2}) of x (…, L, E), or (…, E) at one position, by its
        angle; in the dtype of the angles. Positions may be a tensor that goes with x but for E."""
        x = x.to(self.cos.dtype)
        other = x.roll(x.shape[-1] // 2, dims=-1)  # of each pair the other one
        return torch.addcmul(x * self.cos[at], other, self.sin[at])


# The layers of a model are at the same positions: one table serves them all, while one of them is
# in use.
_in_use: WeakValueDictionary[tuple[object, ...], Turns] = WeakValueDictionary()


def turns(length: int, base: float, like: Tensor, scale: float = 1.0) -> Turns:
    """The `Turns` of these sizes, one for all layers whose states keep it for their steps."""
    key = length, like.shape[-1], base, like.dtype, like.device, scale
    found = _in_use.get(key)
    if found is None:
        with normal_tensors():
            found = _in_use[key] = Turns(length, base, like, scale=scale)
    return found
