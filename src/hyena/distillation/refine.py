r"""Least squares over the poles and weights of many filters at once.

Given the poles, the best weights are a linear least-squares problem, so only the poles are searched
for, by the steps of Levenberg and Marquardt on what the weights leave over (variable projection:
Golub, Pereyra 1973, in Kaufman's approximation). One QR factorisation of the columns
[P, t·P, h] a step holds all that is needed: P are the modes' two waves, t·P span their derivatives.

Weights are kept small by a ridge: modes that cancel each other are then at most 1/RIDGE times the
error in size, and rounding them to float32 costs less than a hundredth of the error.

Sizes: C filters, K taps, R rows (lags used), m modes; waves are 2m columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from hyena.distillation.hankel import rate_bounds, sampled_lags
from hyena.distillation.modes import Modes

RIDGE = 1e-5
_ROWS = 2048  # of a search; with many modes as many as make it over-determined
_BLOCK = 4096  # rows that are factorised at a time
_NUMBERS = 1 << 22  # in the columns of the filters that are refined at a time: 32 MiB
_STALLED = 1e-3  # a relative improvement over `_PATIENCE` steps that is none
_PATIENCE = 6


def solve_weights(rate: Tensor, frequency: Tensor, taps: Tensor) -> tuple[Modes, Tensor]:
    """The modes (C, m) of these poles with the best weights for taps (C, K), and ‖h − ĥ‖ (C,).

    Tap k of ``taps`` is that of lag k + 1; the modes' own taps begin at lag 0.
    """
    lags = torch.arange(taps.shape[1])
    weight = torch.empty(rate.shape, dtype=taps.dtype.to_complex())
    for part in _groups(len(taps), min(len(lags), _BLOCK), 2 * rate.shape[1] + 1):
        found = _Problem.of(rate[part], frequency[part], taps[part], lags, slopes=False)
        real, imaginary = (found.weight / 2).chunk(2, dim=1)
        # The waves count from lag 1, and modes from lag 0.
        shift = torch.exp(torch.complex(found.rate, -found.frequency))
        weight[part] = torch.complex(real, imaginary) * shift
    modes = Modes(rate, frequency, weight)
    return modes, (modes.taps(len(lags) + 1)[:, 1:] - taps).norm(dim=1)


def refine(
    rate: Tensor, frequency: Tensor, taps: Tensor, *, goal: float = 0.0, steps: int = 50
) -> tuple[Tensor, Tensor]:
    """Better poles for taps of norm 1.

    Args: the poles (C, m); taps (C, K) of the lags from 1 on; the error ‖h − ĥ‖ at which a filter
        is good enough; the most steps.
    Returns: rate and frequency (C, m); no filter is worse on the lags it was refined on.
    """
    lags = sampled_lags(taps.shape[1], max(_ROWS, 16 * rate.shape[1]))
    taps = taps[:, lags] * math.sqrt(taps.shape[1] / len(lags))
    rate, frequency = rate.clone(), frequency.clone()
    for part in _groups(taps.shape[0], len(lags), 4 * rate.shape[1] + 1):
        rate[part], frequency[part] = _refine(
            rate[part], frequency[part], taps[part], lags, goal, steps
        )
    return rate, frequency


def _refine(
    rate: Tensor, frequency: Tensor, taps: Tensor, lags: Tensor, goal: float, steps: int
) -> tuple[Tensor, Tensor]:
    rate, frequency = rate.clone(), frequency.clone()
    left = torch.arange(len(taps))  # filters that are still refined
    now = _Problem.of(rate, frequency, taps, lags)
    damping = torch.full((len(taps),), 0.1, dtype=taps.dtype)
    history = [now.error]
    for _ in range(steps):
        new = _Problem.of(*now.stepped(damping), taps[left], lags)
        better = new.error < now.error
        damping = torch.where(better, damping / 5, damping * 4).clamp(1e-12, 1e8)
        now = _Problem(*(_chosen(better, *pair) for pair in zip(new, now, strict=True)))
        rate[left], frequency[left] = now.rate, now.frequency
        history = [*history[-_PATIENCE:], now.error]
        going = now.error > goal
        if len(history) > _PATIENCE:
            going &= now.error < (1 - _STALLED) * history[0]
        if not going.all():
            left, damping = left[going], damping[going]
            now = _Problem(*(x[going] for x in now))
            history = [x[going] for x in history]
            if len(left) == 0:
                break
    return rate, frequency


class _Problem(NamedTuple):
    """Filters with their poles, and the triangle that stands for the columns [P, τ·P, h].

    τ is the lag over the filter's length.
    """

    rate: Tensor  # (C, m)
    frequency: Tensor  # (C, m)
    triangle: Tensor  # (C, columns, columns)
    weight: Tensor  # (C, 2m): of the waves, e^{−at}·cos ωt and −e^{−at}·sin ωt
    error: Tensor  # (C,), the ridge's share included
    length: Tensor  # (C,)

    @staticmethod
    def of(
        rate: Tensor, frequency: Tensor, taps: Tensor, lags: Tensor, *, slopes: bool = True
    ) -> _Problem:
        waves, length = 2 * rate.shape[1], int(lags[-1]) + 1
        columns = waves * (2 if slopes else 1) + 1
        # What the two waves of a mode weigh together, to scale the ridge with.
        size = (
            -torch.expm1(-2 * rate * length) / -torch.expm1(-2 * rate) * len(lags) / length
        ).sqrt()
        R = torch.zeros(len(rate), waves, columns, dtype=rate.dtype)
        R[:, :, :waves] = torch.diag_embed(RIDGE * torch.cat([size, size], dim=1))
        for start in range(0, len(lags), _BLOCK):
            t = lags[start : start + _BLOCK].to(rate.dtype)[:, None]
            envelope, angle = torch.exp(-rate[:, None] * t), frequency[:, None] * t
            P = torch.cat([envelope * angle.cos(), -envelope * angle.sin()], dim=-1)
            parts = [P, P * (t / length)] if slopes else [P]
            h = taps[:, start : start + _BLOCK, None]
            R = torch.linalg.qr(torch.cat([R, torch.cat([*parts, h], dim=-1)], dim=1), mode="r").R
        weight = torch.linalg.solve_triangular(R[:, :waves, :waves], R[:, :waves, -1:], upper=True)
        error = R[:, waves:, -1].norm(dim=-1)
        full = torch.full_like(error, length)
        return _Problem(rate, frequency, R, weight[..., 0], error, full)

    def stepped(self, damping: Tensor) -> tuple[Tensor, Tensor]:
        """Rates and frequencies after a damped Gauss–Newton step."""
        m, length = self.rate.shape[1], self.length[:, None]
        low, high = rate_bounds(int(self.length[0]))
        beyond = self.triangle[:, 2 * m : 4 * m, :]  # what is orthogonal to the waves
        cosine, sine = beyond[:, :, 2 * m : 3 * m], beyond[:, :, 3 * m : 4 * m]
        a, b = self.weight[:, None].chunk(2, dim=-1)
        by_rate = -(a * cosine + b * sine)  # times the length, as τ has it
        by_frequency = a * sine - b * cosine
        J = torch.cat([by_rate, by_frequency], dim=-1)  # (C, 2m, 2m)
        gradient = (J.mT @ beyond[:, :, -1:])[..., 0]
        # A rate at its bound that would go beyond stays, and leaves the others alone.
        outward = (self.rate <= low) & (gradient[:, :m] < 0)
        outward |= (self.rate >= high) & (gradient[:, :m] > 0)
        held = torch.cat([outward, torch.zeros_like(outward)], dim=1)
        J, gradient = J.masked_fill(held[:, None], 0), gradient.masked_fill(held, 0)
        normal = J.mT @ J
        diagonal = normal.diagonal(dim1=1, dim2=2)
        floor = 1e-10 * diagonal.amax(1, keepdim=True) + torch.finfo(J.dtype).tiny
        normal = normal + torch.diag_embed(damping[:, None] * diagonal + floor)
        step = torch.linalg.solve(normal, gradient[..., None])[..., 0] / length
        rate = self.rate + step[:, :m]
        rate = torch.minimum(torch.maximum(rate, self.rate / 3), 3 * self.rate + 1 / length)
        frequency = (self.frequency + step[:, m:]).remainder(2 * math.pi)
        frequency = torch.minimum(frequency, 2 * math.pi - frequency)
        return rate.clamp(low, high), frequency


def _chosen(which: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(which.view(-1, *[1] * (a.ndim - 1)), a, b)


def _groups(filters: int, rows: int, columns: int) -> Iterator[slice]:
    size = max(1, _NUMBERS // ((rows + columns) * columns))
    return (slice(start, start + size) for start in range(0, filters, size))
