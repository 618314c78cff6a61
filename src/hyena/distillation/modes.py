"""Filters as sums of a few decaying waves, and those as ratios of polynomials.

Sizes: C filters (the channels of a layer), m modes a filter, N = 2m degree.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from hyena.filters.exponentials import sum_of_exponentials


class Modes(NamedTuple):
    r"""h_t = 2 Re Σ_i weight_i · e^{t·(−rate_i + √−1·frequency_i)} for t ≥ 0.

    Each mode stands for a pair of conjugate poles, so that m of them are a recurrence with 2m real
    numbers in its state. A mode of frequency 0 or π is a single real pole.
    """

    rate: Tensor  # (C, m), above 0
    frequency: Tensor  # (C, m), 0 … π
    weight: Tensor  # (C, m), complex

    def taps(self, length: int) -> Tensor:
        """h_0 … h_{length − 1}: (C, length)."""
        return sum_of_exponentials(self.weight, torch.complex(-self.rate, self.frequency), length)

    def widened(self, modes: int) -> Modes:
        """The same filters with so many modes, the new ones of weight 0."""
        more = (0, modes - self.rate.shape[1])
        return Modes(
            F.pad(self.rate, more, value=1.0), F.pad(self.frequency, more), F.pad(self.weight, more)
        )


def spread(filters: int, modes: int, length: int) -> tuple[Tensor, Tensor]:
    """Rates and frequencies (C, m) of modes that nothing is known of: even over all frequencies."""
    frequency = math.pi * (torch.arange(modes, dtype=torch.float64) + 0.5) / max(modes, 1)
    rate = torch.full((filters, modes), 4 / length, dtype=torch.float64)
    return rate, frequency.expand(filters, modes)


def rational(modes: Modes, first: Tensor) -> tuple[Tensor, Tensor]:
    """The transfer function with the modes' taps from lag 1 on and ``first`` (C,) at lag 0: the
    reflection (C, N) and the numerator (C, N + 1) of `hyena.filters.TransferFunctionTaps`.

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
    return _reflection(a.masked_fill(past, 0)), b.masked_fill(past, 0)


def _reflection(a: Tensor) -> Tensor:
    """The coefficients, as inverse hyperbolic tangents, from the last one down (Levinson)."""
    nearest = 1 - torch.finfo(a.dtype).eps
    found = []
    while a.shape[1] > 1:
        k = a[:, -1:].clamp(-nearest, nearest)
        found.append(k)
        a = ((a - k * a.flip(1)) / (1 - k * k))[:, :-1]
    return torch.cat(found[::-1], dim=1).atanh()
