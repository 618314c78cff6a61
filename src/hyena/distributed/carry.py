"""Filters that are sums of exponentials, on a piece of a row: a state is carried from the pieces
before.

Each process convolves its piece as if nothing came before, and finds what the piece leaves in the
state behind it. What those before have left, decayed on the way, adds to its outputs as the filter
goes on from it.

Sizes: B batch, D channels, p positions of a piece, m exponentials of a channel.
"""

import torch
from torch import Tensor

from hyena.distributed.exchange import of_earlier
from hyena.distributed.rows import Rows
from hyena.filters.exponentials import decayed_by, exponential_sum, response_of


def is_less(exponent: Tensor, rows: Rows) -> bool:
    """Whether the states of m exponentials, sent to all later processes, are fewer numbers than all
    positions there and back, as `hyena.distributed.long_conv` sends them."""
    numbers = exponent.shape[-1] * (2 if exponent.is_complex() else 1)
    return numbers * rows.processes**2 <= 4 * rows.length


def from_before(v: Tensor, exponent: Tensor, weight: Tensor, rows: Rows) -> Tensor:
    """What the pieces before add to the convolution of this one: (B, D, p).

    Args: v (B, D, p) of the piece that is here, p ≥ 1; exponent and weight (D, m) of the taps
        2 Re Σ weight · e^{t · exponent}.
    """
    left = exponential_sum(v.to(weight.real.dtype), exponent)
    parts = torch.view_as_real(left) if left.is_complex() else left[..., None]
    earlier = of_earlier(parts, rows)
    earlier = torch.view_as_complex(earlier) if left.is_complex() else earlier[..., 0]
    # Of no process as well: its gradient has to go where the states of this one went.
    state = earlier[:0].sum(0)
    for x, (_, stop) in zip(earlier, rows.spans, strict=False):
        state = state + decayed_by(x, exponent, rows.start - stop, weight.real.dtype)
    return response_of(state, exponent, weight, v.shape[-1])
