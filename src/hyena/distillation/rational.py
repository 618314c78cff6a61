"""Modes as a ratio of polynomials.

Sizes: C filters, m modes, N = 2m degree.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from hyena.distillation.modes import Modes


class Rational(NamedTuple):
    """What `hyena.filters.TransferFunctionTaps` is made of."""

    reflection: Tensor  # (C, N)
    numerator: Tensor  # (C, N + 1)


def rational(modes: Modes, first: Tensor) -> Rational:
    """The transfer function with the modes' taps from lag 1 on and ``first`` (C,) at lag 0.

    Many poles in one place make coefficients that cancel, so that some of the precision of the
    parameters is lost, or all of it: measure the taps.
    """
    C, m = modes.rate.shape
    pole = torch.exp(torch.complex(-modes.rate, modes.frequency))
    idle, real = modes.weight == 0, pole.imag.abs() <= 1e-14 * pole.abs()
    # Factors 1 + c₁/z + c₂/z²: of a pair, of a real pole, of no pole.
    c1 = torch.where(idle, 0.0, torch.where(real, -pole.real, -2 * pole.real))
    c2 = torch.where(idle | real, 0.0, pole.abs().square())
    a = torch.ones(C, 1, dtype=modes.rate.dtype)
    for one, two in zip(c1.unbind(1), c2.unbind(1), strict=True):
        longer = F.pad(a, (0, 2))
        a = longer + one[:, None] * longer.roll(1, 1) + two[:, None] * longer.roll(2, 1)
    degree = (~idle).sum(1) + (~idle & ~real).sum(1)
    h = modes.taps(2 * m + 1)
    h[:, 0] = first
    b = torch.stack([(a[:, : k + 1] * h[:, : k + 1].flip(1)).sum(1) for k in range(2 * m + 1)], 1)
    past = torch.arange(2 * m + 1) > degree[:, None]
    return Rational(_reflection(a.masked_fill(past, 0)), b.masked_fill(past, 0))


def _reflection(a: Tensor) -> Tensor:
    """The coefficients, as inverse hyperbolic tangents, from the last one down (Levinson)."""
    nearest = 1 - torch.finfo(a.dtype).eps
    found = []
    while a.shape[1] > 1:
        k = a[:, -1:].clamp(-nearest, nearest)
        found.append(k)
        a = ((a - k * a.flip(1)) / (1 - k * k))[:, :-1]
    return torch.cat(found[::-1], dim=1).atanh()
