"""Modes for given filters: as few as a tolerance needs, or a given number.

Sizes: C filters, K taps (of the lags 1 … K), m modes, p rows of a Hankel matrix.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from hyena.arguments import check_whole
from hyena.distillation.hankel import Hankel, check_taps, followed_by_zeros, hankel, realise
from hyena.distillation.modes import Modes
from hyena.distillation.refine import refine, solve_weights
from hyena.ops.arguments import check_numbers

Report = Callable[[int, int], None]
"""Called with the number of filters that are done and of all there are."""

_TOGETHER = 32  # filters whose Hankel matrices are held at a time
_AT_ONCE = 4  # of these, filters that are as near as they get with the largest order
_REACH = 2.5  # refinement is tried where the error is at most so many times the tolerance
_ON_THE_WAY, _AT_LAST = 25, 60  # steps of a refinement


class Fit(NamedTuple):
    """Modes of C filters and how good they are. Errors are relative to ‖h‖ over lags 1 … K."""

    modes: Modes  # (C, m)
    order: Tensor  # (C,) int64: numbers in the state, 2 a mode; 0 for a filter of zeros
    error: Tensor  # (C,)
    bound: Tensor  # (C,): no recurrence of this order has a smaller error
    singular_values: Tensor  # (C, p), relative to the largest; zeros for a filter of zeros


def fit(
    taps: Tensor,
    *,
    tolerance: float | None = None,
    order: int | None = None,
    largest: int = 256,
    progress: Report | None = None,
) -> Fit:
    """Recurrences for filters.

    A filter's poles begin as those of its balanced truncation and are refined by least squares.
    With a tolerance the order of each filter grows from the least that its Hankel matrix permits
    until the error is small enough; filters for which that does not happen get the largest order.

    Args:
        taps: (C, K) float64, of the lags from 1 on.
        tolerance: largest relative error of a filter; or
        order: the order of all filters, even.
        largest: the largest order with a tolerance, even; at most half of K is used.
        progress: told now and then how many filters are done, and at the end that all are.

    Raises: ValueError if the taps are not finite, fewer than 4, or too few for the order.
    """
    C, K = check_taps("fit", taps)
    if K < 4:
        raise ValueError(f"fit: expected 4 taps or more beside that of lag 0, got {K}")
    if (tolerance is None) == (order is None):
        raise ValueError("fit: expected a tolerance or an order, and not both")
    largest = check_whole("fit: largest", largest)
    if tolerance is not None:
        (wanted,) = check_numbers("fit", tolerance=tolerance)
        if wanted <= 0:
            raise ValueError(f"fit: expected a tolerance above 0, got {tolerance}")
        tolerance = wanted
    if order is not None:
        order = check_order(order, K)
    most = min(largest, _limit(K)) if order is None else order
    found = []
    for part in torch.arange(C).split(_TOGETHER):

        def done(filters: int, before: int = int(part[0])) -> None:
            if progress is not None:
                progress(before + filters, C)

        found.append(_fit(taps[part], tolerance, most, done))
        done(len(part))
    modes = [each.modes for each in found]
    others = [torch.cat(each) for each in zip(*(each[1:] for each in found), strict=True)]
    used = max(1, int(others[0].max()) // 2)
    all_modes = Modes(*(torch.cat(each)[:, :used] for each in zip(*modes, strict=True)))
    return Fit(all_modes, *others)


def check_order(order: int, taps: int) -> int:
    """The order as an int. Raises ValueError if filters with so many taps beside that of lag 0
    cannot have it."""
    limit = _limit(taps)
    order = check_whole("fit: order", order, None)
    if order < 2 or order % 2 or order > limit:
        raise ValueError(
            f"an order of {order} was asked for, but filters of {taps + 1} taps have even orders "
            f"from 2 to {limit}; choose one of these"
        )
    return order


def _limit(taps: int) -> int:
    """The largest order that so many taps determine."""
    return 2 * (taps // 4)


def ladder(most: int) -> list[int]:
    """Even orders up to ``most``, about four an octave."""
    orders, order = [], 2
    while order < most:
        orders.append(order)
        order += max(2, (1 << (order.bit_length() - 1)) // 4)
    return [*orders, most]


def _fit(taps: Tensor, tolerance: float | None, most: int, done: Callable[[int], None]) -> Fit:
    """Fits filters (C, K) side by side. ``done`` is told now and then how many are done."""
    norm = taps.norm(dim=1)
    filters = _Filters(taps / torch.where(norm > 0, norm, 1.0)[:, None], most)
    left = norm.nonzero()[:, 0]
    if tolerance is not None:
        for order in ladder(most):
            possible = left[filters.plain.nearest(order)[left] <= tolerance]
            filters.try_order(possible, order, tolerance)
            left = left[filters.error[left] > tolerance]
            done(len(taps) - len(left))
    for at in range(0, len(left), _AT_ONCE):
        filters.settle(left[at : at + _AT_ONCE], most)
        done(len(taps) - len(left[at + _AT_ONCE :]))
    filters.error[norm == 0] = 0
    spectrum = filters.plain.singular_values()
    top = spectrum[:, :1]
    bound = torch.stack([filters.plain.nearest(int(n))[c] for c, n in enumerate(filters.order)])
    # The modes are of filters of norm 1.
    modes = filters.modes._replace(weight=filters.modes.weight * norm[:, None])
    return Fit(
        modes, filters.order, filters.error, bound, spectrum / torch.where(top > 0, top, 1.0)
    )


class _Filters:
    """Filters of norm 1, their Hankel matrices, and what has been found for them."""

    def __init__(self, taps: Tensor, most: int) -> None:
        self.taps = taps
        self.plain, self.tailed = hankel(taps, most), hankel(followed_by_zeros(taps), most)
        zero = torch.zeros(len(taps), most // 2, dtype=taps.dtype)
        self.modes = Modes(zero + 1, zero, torch.complex(zero, zero))
        self.order = torch.zeros(len(taps), dtype=torch.int64)
        self.error = torch.ones(len(taps), dtype=taps.dtype)

    def try_order(self, which: Tensor, order: int, tolerance: float) -> None:
        """Takes that order for those of the filters for which it is enough."""
        rate, frequency, error = self._begin(which, order)
        self._keep(which, rate, frequency)
        good = error <= tolerance
        near = ~good & (error <= _REACH * tolerance)
        which, rate, frequency = which[near], rate[near], frequency[near]
        goal = 0.98 * tolerance
        rate, frequency = refine(rate, frequency, self.taps[which], goal=goal, steps=_ON_THE_WAY)
        self._keep(which, rate, frequency)

    def settle(self, which: Tensor, order: int) -> None:
        """Takes that order, as good as it gets."""
        rate, frequency, _ = self._begin(which, order)
        self._keep(which, *refine(rate, frequency, self.taps[which], steps=_AT_LAST))

    def _begin(self, which: Tensor, order: int) -> tuple[Tensor, Tensor, Tensor]:
        """The poles of balanced truncations, and the error with them."""
        taps, K = self.taps[which], self.taps.shape[1]
        rate, frequency, grows = realise(_some(self.plain, which), order // 2, K)
        _, error = solve_weights(rate, frequency, taps)
        place = grows.nonzero()[:, 0]
        tailed = realise(_some(self.tailed, which[place]), order // 2, K)
        _, other = solve_weights(tailed[0], tailed[1], taps[place])
        better = other < error[place]
        place = place[better]
        rate[place], frequency[place] = tailed[0][better], tailed[1][better]
        error[place] = other[better]
        return rate, frequency, error

    def _keep(self, which: Tensor, rate: Tensor, frequency: Tensor) -> None:
        """Remembers these poles with their best weights, where nothing better is known."""
        modes, error = solve_weights(rate, frequency, self.taps[which])
        better = error < self.error[which]
        which = which[better]
        self.order[which], self.error[which] = 2 * rate.shape[1], error[better]
        wide = modes.widened(self.modes.rate.shape[1])
        for mine, found in zip(self.modes, wide, strict=True):
            mine[which] = found[better]


def _some(matrices: Hankel, which: Tensor) -> Hankel:
    return matrices._replace(values=matrices.values[which], shifted=matrices.shifted[which])
