r"""How small a recurrence can be: the Hankel matrix of a filter.

The matrix H with the entries h_{1+i+j} maps past inputs to future outputs. Its rank is the smallest
order of a recurrence with these taps (Kronecker), and its singular values σ say how much every
further order brings. Of the filters of order n none comes nearer than

.. math:: \|h - \hat h\|_2 \ge \sqrt{\textstyle\sum_{i > n} \sigma_i^2 \,/\, \mu},

where μ is how often a tap stands in H at most, since a matrix of rank n is no nearer (Eckart,
Young) and each tap's error is counted at most μ times. With the matrix that is shifted by one lag,
H also gives a recurrence of order n: its balanced truncation (Kung 1978; Juang, Pappa 1985). The
order of distilled filters is read from such spectra in Massaroli et al. 2023 (arXiv:2310.18780).

Sizes: C filters, K taps (of the lags 1 … K), p rows and columns, k values that can be used,
m modes.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from hyena.arguments import check_whole
from hyena.distillation.modes import spread
from hyena.ops.arguments import check_tensor

_RANK = 1e-13  # values below, relative to the largest, are rounding errors


class Hankel(NamedTuple):
    """The Hankel matrices of C filters and their eigenvalues, which are ± the singular values."""

    values: Tensor  # (C, p), largest modulus first
    shifted: Tensor  # (C, k, k): the shifted matrix between the first k eigenvectors
    scale: float  # of the values, where rows and columns are a sample
    multiplicity: int  # μ

    def singular_values(self) -> Tensor:
        """(C, p), largest first; an estimate where rows and columns are a sample."""
        return self.values.abs() * self.scale

    def nearest(self, order: int) -> Tensor:
        """A lower bound of ‖h − ĥ‖ over all recurrences of an order, (C,)."""
        tail = self.values[:, order:].square().sum(1)
        return (tail / self.multiplicity).sqrt()


def hankel(taps: Tensor, order: int, *, most: int = 512) -> Hankel:
    """The Hankel matrices of filters, decomposed.

    Up to ``most`` rows they are whole: p = K/2. Of longer filters, rows and columns are a random
    lag of each of ``most`` equal pieces; the rank and the recurrences are then still exact, and
    only the values are estimates.

    Args:
        taps: (C, K) float64, K ≥ 2.
        order: the largest that will be asked for.
        most: rows and columns.

    Returns: what of them is needed, see `Hankel`.
    Raises: TypeError or ValueError on others.
    """
    C, K = check_taps("hankel", taps)
    order = check_whole("hankel: order", order)
    most = check_whole("hankel: most", most)
    if K < 2:
        raise ValueError(f"hankel: expected 2 taps or more, got {K}")
    half = K // 2
    lags = sampled_lags(half, most)
    pairs = lags[:, None] + lags[None, :]
    p, k = len(lags), min(order, len(lags))
    values = torch.empty(C, p, dtype=taps.dtype)
    shifted = torch.empty(C, k, k, dtype=taps.dtype)
    for c in range(C):
        matrix = taps[c][pairs]
        value, vectors = torch.linalg.eigh(matrix)
        by_modulus = value.abs().argsort(descending=True)
        values[c] = value[by_modulus]
        first = vectors[:, by_modulus[:k]]
        shifted[c] = first.T @ (taps[c][pairs + 1] @ first)
    return Hankel(values, shifted, half / p, int(pairs.flatten().bincount().max()))


def check_taps(name: str, taps: Tensor) -> tuple[int, int]:
    """C and K. Raises: TypeError or ValueError unless taps are (C, K), C ≥ 1, of float64, with
    finite squares."""
    check_tensor(name, "taps", taps)
    if taps.dim() != 2 or taps.dtype != torch.float64 or not len(taps) or taps.is_meta:
        raise ValueError(
            f"{name}: expected taps (C, K) of float64, got {tuple(taps.shape)} of {taps.dtype} on "
            f"{taps.device}"
        )
    if not bool(taps.square().sum(dim=1).isfinite().all()):
        raise ValueError(
            f"{name}: the taps of a filter, or their squares, are not finite; did its training "
            "diverge?"
        )
    return taps.shape[0], taps.shape[1]


def sampled_lags(count: int, most: int) -> Tensor:
    """0 … count − 1, or if those are too many, one of each of ``most`` equal pieces at random."""
    if count <= most:
        return torch.arange(count)
    generator = torch.Generator().manual_seed(0)
    places = torch.arange(most) + torch.rand(most, dtype=torch.float64, generator=generator)
    return (places * (count / most)).long()


def realise(matrices: Hankel, modes: int, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """The poles of each filter's balanced truncation to at most so many modes.

    A complex pair is a mode and so is a real pole, so that the order is between m and 2m. Poles on
    or outside the unit circle, which a filter cut off at its last tap can have, keep their
    frequency and get the smallest rate.

    Args: the matrices; m; the number of taps, which sets the smallest rate.
    Returns: rate and frequency (C, m) and whether there were such poles, (C,) bool.
    """
    C = len(matrices.values)
    rate, frequency = (x.clone() for x in spread(C, modes, length))
    grows = torch.zeros(C, dtype=torch.bool)
    for c in range(C):
        poles = _poles(matrices.values[c], matrices.shifted[c], modes)
        grows[c] = bool((poles.abs() >= 1).any())
        rate[c, : len(poles)] = -poles.abs().clamp(min=1e-30).log()
        frequency[c, : len(poles)] = poles.angle().abs()
    return rate.clamp(*rate_bounds(length)), frequency, grows


def rate_bounds(length: int) -> tuple[float, float]:
    """Smallest and largest rate of a mode of a filter with so many taps.

    The slowest mode loses a thousandth over the filter's length; the fastest is at 2% after a lag.
    """
    return 1e-3 / length, 4.0


def _poles(values: Tensor, shifted: Tensor, modes: int) -> Tensor:
    """Those with imaginary part ≥ 0 of the largest order that has at most so many."""
    modulus = values.abs()
    rank = int((modulus > _RANK * modulus[0]).sum()) if modulus[0] > 0 else 0
    for order in range(min(2 * modes, rank, len(shifted)), 0, -1):
        root = modulus[:order].rsqrt()
        step = root[:, None] * shifted[:order, :order] * (values[:order].sign() * root)
        poles = torch.linalg.eigvals(step)
        poles = poles[poles.imag >= 0]
        if len(poles) <= modes:
            return poles
    return values.new_empty(0, dtype=torch.complex128)


def followed_by_zeros(taps: Tensor) -> Tensor:
    """The filters with an eighth of their length in zeros behind, which makes most poles stable."""
    return F.pad(taps, (0, math.ceil(taps.shape[1] / 8)))
