r"""Long sums over the powers of a few complex numbers, as products of small matrices.

With blocks of P ≈ √L positions, e^{z(iP + j)} = e^{z·iP} · e^{zj}: a table of e^{zj} for one block
and one of e^{z·iP} for all blocks stand for the L powers of a number z. So nothing larger than
O(√L) for each number is kept, for gradients neither, and the sums are matrix products.

Sizes: D channels, m complex numbers a channel, L length, P positions of a block, B batch.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def sum_of_exponentials(weight: Tensor, exponent: Tensor, length: int) -> Tensor:
    r"""h_t = 2 Re Σ_i weight_i · e^{t · exponent_i} for t = 0 … length − 1.

    Args: weight and exponent (D, m) complex; length L ≥ 1.
    Returns: h (D, L) real.
    """
    block = _block(length)
    blocks = -(-length // block)
    starts = 2 * weight[:, None] * _powers(exponent, blocks, block)  # (D, blocks, m)
    within = _powers(exponent, block, 1)  # (D, P, m)
    # Re(a·b) is the inner product of (Re a, −Im a) and (Re b, Im b).
    h = _parts(starts.conj()) @ _parts(within).transpose(1, 2)  # (D, blocks, P)
    return h.flatten(1)[:, :length]


def exponential_sum(u: Tensor, exponent: Tensor) -> Tensor:
    r"""x_i = Σ_s u_s · e^{(L − 1 − s) · exponent_i}: the state that u leaves behind.

    Args: u (B, D, L) real, L ≥ 1; exponent (D, m) complex of the same width.
    Returns: x (B, D, m) complex.
    """
    B, D, L = u.shape
    block = _block(L)
    blocks = -(-L // block)
    ages = F.pad(u.flip(-1), (0, blocks * block - L)).view(B, D, blocks, block)
    ages = ages.transpose(0, 1).reshape(D, B * blocks, block)
    within = ages @ _parts(_powers(exponent, block, 1))  # (D, B · blocks, 2m)
    sums = torch.view_as_complex(within.unflatten(-1, (-1, 2))).unflatten(1, (B, blocks))
    return (sums * _powers(exponent, blocks, block)[:, None]).sum(2).transpose(0, 1)


def _block(length: int) -> int:
    return math.isqrt(length - 1) + 1


def _powers(exponent: Tensor, count: int, stride: int) -> Tensor:
    """e^{exponent · stride · i} for i = 0 … count − 1: (D, count, m)."""
    i = torch.arange(count, device=exponent.device).to(exponent.real.dtype)
    return torch.exp(exponent[:, None] * (stride * i)[:, None])


def _parts(x: Tensor) -> Tensor:
    """Complex numbers as their real and imaginary parts side by side: (…, m) → (…, 2m)."""
    return torch.view_as_real(x.resolve_conj()).flatten(-2)
