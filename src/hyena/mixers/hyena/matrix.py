"""The matrix that a Hyena operator multiplies its value by, of one input and channel.

Sizes: L length, D width, N order.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from hyena.arguments import check_whole
from hyena.filters.precision import wide
from hyena.mixers.hyena.operator import HyenaOperator


class HyenaMatrix(NamedTuple):
    """The output of a channel as a product, ``matrix @ value``.

    Attributes:
        matrix: H(u), (L, L). Entry (t, s) is the weight of the value at s in the output at t.
        value: v, (L,).
    """

    matrix: Tensor
    value: Tensor


@torch.no_grad()
def hyena_matrix(operator: HyenaOperator, u: Tensor, channel: int) -> HyenaMatrix:
    r"""The matrix of one channel for one input, written out.

    .. math:: y = H(u)\,v, \qquad
        H(u) = \mathsf{D}_x^N\,\mathsf{S}_h^N \cdots \mathsf{D}_x^1\,\mathsf{S}_h^1

    Poli et al. 2023 (arXiv:2302.10866), section 3.2. As in `hyena.HyenaOperator` there are N gates
    and N − 1 long convolutions, so the rightmost factor is a gate too; and the direct path of each
    filter is part of its Toeplitz matrix. y is what the output projection is given. Dropout is left
    out.

    It takes O(L²) memory and, beyond order 2, O(N·L³) work.

    Args:
        operator: causal or bidirectional, of any order and filter.
        u: its input, (L, D), L ≥ 1.
        channel: from 0 to D − 1.

    Returns: H(u) and v, in the dtype of u, or float32 if that is wider.
    Raises: ValueError on another shape or channel, and on a length that the filter refuses.
    """
    if u.dim() != 2 or u.shape[0] < 1 or u.shape[1] != operator.width:
        raise ValueError(
            f"hyena_matrix: expected u (L, D) with L ≥ 1 and D = {operator.width}, got "
            f"{tuple(u.shape)}"
        )
    channel = check_whole("hyena_matrix: channel", channel, 0, operator.width - 1)
    L, dtype = u.shape[0], wide(u.dtype)
    z = operator._short(operator._projected(u[None], None), None)[0]  # ((N+1)·D, L)
    *gates, value = z.unflatten(0, (operator.order + 1, -1))[:, channel].to(dtype)
    filter, causal = operator._filter, not operator.bidirectional
    first, *later = [
        _toeplitz(taps.to(dtype), skip, L, causal=causal)
        for taps, skip in zip(filter(L)[:, channel], filter.direct[:, channel], strict=True)
    ]
    matrix = first * gates[-1]  # a diagonal matrix on the right scales columns, on the left rows
    for S, gate in zip(later, reversed(gates[1:-1]), strict=True):
        matrix = S @ (gate[:, None] * matrix)
    return HyenaMatrix(gates[0][:, None] * matrix, value)


def _toeplitz(taps: Tensor, skip: Tensor, length: int, *, causal: bool) -> Tensor:
    """S_h, (L, L): entry (t, s) is the tap of lag t − s; on the diagonal the direct path is added.

    Args:
        taps: of lags 0 … L−1, or −(L−1) … L−1 if not causal.
    """
    of_lags = F.pad(taps, (length - 1, 0)) if causal else taps.clone()
    of_lags[length - 1] += skip.to(taps.dtype)
    return of_lags.unfold(0, length, 1).flip(1)
