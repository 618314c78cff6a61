"""The weighted mean of RWKV: a softmax over the past whose weights decay with the distance.

Sizes: B batch, L length, D channels.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from hyena.mixers.rivals.scans.previous import previous
from hyena.mixers.rivals.scans.scan import EMPTY, linear_scan, running_max


class WKVSums(NamedTuple):
    """The two sums after a token, scaled by e^{−exponent}."""

    numerator: Tensor  # (B, D)
    denominator: Tensor  # (B, D)
    exponent: Tensor  # (B, D)


def wkv(
    k: Tensor, v: Tensor, decay: Tensor, bonus: Tensor, starts: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    r"""The means of all positions at once.

    .. math:: y_t = \frac{\sum_{s<t} e^{k_s - (t-1-s)\,w} v_s + e^{k_t + b} v_t}
                         {\sum_{s<t} e^{k_s - (t-1-s)\,w} + e^{k_t + b}}

    with the decay w and the bonus b. Peng et al. 2023 (arXiv:2305.13048), section 3. As its authors
    do, sums are kept with their largest exponent taken out, so that nothing overflows and no
    denominator vanishes. Here these exponents are found first, for all positions; with them, the
    sums are linear recurrences with coefficients between zero and one.

    Args:
        k, v: (B, L, D), float32 or float64; a key of `scan.EMPTY` has no weight.
        decay, bonus: (D,) of the same dtype; decay at least zero.
        starts: (B, L, 1) bool, where documents begin; None if only rows begin.

    Returns: y (B, L, D); the two sums after each position, those over s ≤ t without a bonus, scaled
        by e^{−exponent} (2, B, L, D); and the exponents (B, L, D), without gradient.
    """
    top = running_max(k, starts, decay)
    before = previous(top, starts, EMPTY)
    # The difference of exponents first: with slow decays it is nearly exact, a sum would not be.
    kept = ((before - top) - decay).exp()
    weight = (k - top).exp()
    sums = linear_scan(torch.stack([weight * v, weight]), kept)
    numerator, denominator = previous(sums, None)
    current = k + bonus
    peak = torch.maximum(before, current.detach())
    old, new = (before - peak).exp(), (current - peak).exp()  # old is zero where documents begin
    y = (old * numerator + new * v) / (old * denominator + new)
    return y, sums, top


def wkv_step(
    k: Tensor, v: Tensor, decay: Tensor, bonus: Tensor, sums: WKVSums
) -> tuple[Tensor, WKVSums]:
    """One position, k and v (B, D): the mean y (B, D) and the sums after it."""
    numerator, denominator, exponent = sums
    current = k + bonus
    peak = torch.maximum(exponent, current)
    old, new = (exponent - peak).exp(), (current - peak).exp()
    y = (old * numerator + new * v) / (old * denominator + new)
    top = torch.maximum(exponent - decay, k)
    kept, weight = (exponent - decay - top).exp(), (k - top).exp()
    return y, WKVSums(kept * numerator + weight * v, kept * denominator + weight, top)
