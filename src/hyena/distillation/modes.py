"""Filters as sums of a few decaying waves.

Sizes: C filters (the channels of a layer), m modes a filter.
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
