"""How far a measured share may be from the true one."""

from __future__ import annotations

import math

Z = 1.959964  # of the normal distribution: 95% lie within ± Z standard deviations


def wilson(share: float, count: int) -> tuple[float, float]:
    r"""The 95% interval of a share of ``count`` independent trials (Wilson 1927).

    .. math:: \frac{p + z^2/2n \pm z\sqrt{p(1-p)/n + z^2/4n^2}}{1 + z^2/n}

    Unlike p ± z·√(p(1−p)/n) it stays within 0 and 1, and is no point where p is 0 or 1. It holds p
    itself, whatever rounding does.

    Raises: ValueError if there are no trials.
    """
    if count < 1:
        raise ValueError(f"an interval was asked for, but there are {count} trials")
    middle = share + Z * Z / (2 * count)
    half = Z * math.sqrt(share * (1 - share) / count + Z * Z / (4 * count * count))
    whole = 1 + Z * Z / count
    low, high = (middle - half) / whole, (middle + half) / whole
    return max(0.0, min(low, share)), min(1.0, max(high, share))
