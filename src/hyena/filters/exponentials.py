r"""Long sums over the powers of a few numbers, as products of small matrices.

With blocks of P ≈ √L positions, e^{z(iP + j)} = e^{z·iP} · e^{zj}: a table of e^{zj} for one block
and one of e^{z·iP} for all blocks stand for the L powers of a number z. So nothing larger than
O(√L) for each number is kept, for gradients neither, and the sums are matrix products.

An angle of many turns is taken modulo one turn in float64: at position 10⁶ a float32 is
precise to a quarter of a radian only.

Weights and exponents are complex, or both real; exponents may be wider than weights, in whose
width the sums are.

Sizes: D channels, m numbers a channel, L length, P positions of a block, B batch.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from hyena.filters.flops import POWER, PRODUCT, FilterFlops
from hyena.filters.lengths import truncate
from hyena.filters.precision import widest
from hyena.ops.observed import exporting

EXPORTED_BLOCK = 64
# Numbers that `exponential_sum` makes at a time: 64 MiB of float32.
_PART = 1 << 24


def sum_of_exponentials(weight: Tensor, exponent: Tensor, length: int) -> Tensor:
    r"""h_t = 2 Re Σ_i weight_i · e^{t · exponent_i} for t = 0 … length − 1.

    Args: weight and exponent (D, m); length L ≥ 1.
    Returns: h (D, L) real.
    """
    blocks, block = _blocks(length)
    dtype = weight.real.dtype
    starts = 2 * weight[:, None] * _powers(exponent, blocks, block, dtype)  # (D, blocks, m)
    within = _powers(exponent, block, 1, dtype)  # (D, P, m)
    # Re(a·b) is the inner product of (Re a, −Im a) and (Re b, Im b).
    h = _parts(starts.conj()) @ _parts(within).transpose(1, 2)  # (D, blocks, P)
    return truncate(h.flatten(1), length)


def exponential_sum(u: Tensor, exponent: Tensor) -> Tensor:
    r"""x_i = Σ_s u_s · e^{(L − 1 − s) · exponent_i}: the state that u leaves behind.

    In O(B·D·m·L) and, beside u, bounded memory: a part of the channels at a time.

    Args: u (B, D, L) real, L ≥ 1, of the width of the result; exponent (D, m).
    Returns: x (B, D, m).
    """
    B, D, L = u.shape
    blocks, _ = _blocks(L)
    largest = max(B, 1) * max(L, 2 * exponent.shape[1] * blocks)  # numbers of one channel
    channels = max(1, _PART // largest)
    if channels >= D:
        return _exponential_sum(u, exponent)
    parts = zip(u.split(channels, dim=1), exponent.split(channels), strict=True)
    return torch.cat([_exponential_sum(*part) for part in parts], dim=1)


def _exponential_sum(u: Tensor, exponent: Tensor) -> Tensor:
    B, D, L = u.shape
    blocks, block = _blocks(L)
    ages = F.pad(u.flip(-1), (0, blocks * block - L)).view(B, D, blocks, block)
    ages = ages.transpose(0, 1).reshape(D, B * blocks, block)
    sums = ages @ _parts(_powers(exponent, block, 1, u.dtype))  # (D, B · blocks, m), or 2m
    if exponent.is_complex():
        sums = torch.view_as_complex(sums.unflatten(-1, (-1, 2)))
    sums = sums.unflatten(1, (B, blocks))
    return (sums * _powers(exponent, blocks, block, u.dtype)[:, None]).sum(2).transpose(0, 1)


def response(x: Tensor, decay: Tensor, weight: Tensor, length: int) -> Tensor:
    """What a state adds to the next outputs, y_t = 2 Re Σ_i weight_i · decay_i^{t+1} · x_i for
    t = 0 … length − 1.

    Args: x (B, D, m); decay, positive if it is real, and weight (D, m); length L ≥ 1.
    Returns: y (B, D, L) real, of the width of decay.
    """
    return _response(weight * decay * x.to(decay.dtype), _precise_exponent(decay), length)


def response_of(x: Tensor, exponent: Tensor, weight: Tensor, length: int) -> Tensor:
    """`response`, by the exponents of the decays, which may be wider than weights."""
    decay = _powers(exponent, 2, 1, weight.real.dtype)[:, 1]
    return _response(weight * decay * x, exponent, length)


def _response(first: Tensor, exponent: Tensor, length: int) -> Tensor:
    """y_t = 2 Re Σ_i e^{t · exponent_i} · first_i."""
    each = exponent.expand_as(first).flatten(0, 1)
    return sum_of_exponentials(first.flatten(0, 1), each, length).unflatten(0, first.shape[:2])


def decayed(x: Tensor, decay: Tensor, length: int) -> Tensor:
    """What is left of a state after so many steps, decay^length · x, without the inputs there.

    Args and returns: x (B, D, m); decay (D, m), positive if it is real.
    """
    return decayed_by(x, _precise_exponent(decay), length, decay.real.dtype)


def decayed_by(x: Tensor, exponent: Tensor, length: int, dtype: torch.dtype) -> Tensor:
    """`decayed`, by the exponents of the decays, whose powers have parts of this dtype."""
    return _powers(exponent, 2, length, dtype)[:, 1] * x


def step_factor(exponent: Tensor) -> Tensor:
    """e^{exponent} in its own dtype, computed in float64: the decay of a recurrence's step."""
    precise = torch.promote_types(exponent.real.dtype, widest(exponent.device))
    return inside_the_circle(exponent.to(precise.to_complex()).exp(), exponent.dtype)


def inside_the_circle(decay: Tensor, dtype: torch.dtype) -> Tensor:
    """Complex decays in a narrower ``dtype``; none is rounded to a modulus above 1 and grows."""
    most = 1 - torch.finfo(dtype).eps
    return (decay * (most / decay.abs().clamp(min=most))).to(dtype)


def step_exponent(decay: Tensor) -> Tensor:
    """The logarithm of decays, complex or positive numbers; of 0 a number whose powers vanish at
    once."""
    least = torch.finfo(decay.real.dtype).tiny
    if not decay.is_complex():
        return decay.clamp(min=least).log()
    return torch.complex(decay.abs().clamp(min=least).log(), decay.angle())


def _precise_exponent(decay: Tensor) -> Tensor:
    """`step_exponent` in float64: of a decay near 1 a float32 would know few digits."""
    precise = torch.promote_types(decay.real.dtype, widest(decay.device))
    return step_exponent(decay.to(precise.to_complex() if decay.is_complex() else precise))


def sum_flops(rows: int, modes: int, length: int, *, real: bool = False) -> FilterFlops:
    """Operations of `sum_of_exponentials` for so many rows: powers within a block and of all
    blocks' first positions, weights on the latter, and a matrix product of both."""
    block = math.isqrt(length - 1) + 1
    blocks = -(-length // block)
    # Of a real number a power is a product and an exponential.
    numbers, power, product = (1, 2, 1) if real else (2, POWER, PRODUCT)
    powers = modes * (power * (block + blocks) + product * blocks)
    return FilterFlops(rows * 2 * blocks * block * numbers * modes, 0, rows * powers)


def _blocks(length: int) -> tuple[int, int]:
    """How many blocks, of how many positions."""
    if exporting():  # of any length no root can be recorded, and one block is another program
        return length // EXPORTED_BLOCK + 2, EXPORTED_BLOCK
    block = math.isqrt(length - 1) + 1
    return -(-length // block), block


def _powers(exponent: Tensor, count: int, stride: int, dtype: torch.dtype) -> Tensor:
    """e^{exponent · stride · i} for i = 0 … count − 1: (D, count, m), with parts of this dtype."""
    width = exponent.real.dtype
    t = stride * torch.arange(count, device=exponent.device)[:, None]
    modulus = torch.exp(exponent.real[:, None] * t.to(width))
    if not exponent.is_complex():
        return modulus.to(dtype)
    precise = torch.promote_types(width, widest(exponent.device))
    turns = exponent.imag[:, None].to(precise) * (t.to(precise) / (2 * math.pi))
    angle = 2 * math.pi * (turns - turns.detach().round())
    powers = torch.polar(modulus, angle.to(width))
    return powers if dtype == width else powers.to(torch.promote_types(dtype, torch.complex32))


def _parts(x: Tensor) -> Tensor:
    """Complex numbers as their real and imaginary parts side by side, (…, m) → (…, 2m); real ones
    as they are."""
    return torch.view_as_real(x.resolve_conj()).flatten(-2) if x.is_complex() else x
