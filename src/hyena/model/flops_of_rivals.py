"""Floating point operations of the mixers that Hyena and attention are compared with, as executed.

Sizes: B batch, L length, D width, H heads, E head_dim, C positions of a chunk, n state size.
"""

from __future__ import annotations

from dataclasses import dataclass

from hyena.mixers.rivals.linear_attention import LONGEST, SHORTEST
from hyena.model.config import ModelConfig
from hyena.model.flops_of_convolutions import real_fft, spectrum_product
from hyena.model.flops_of_filters import state_space_filters
from hyena.ops.fft import fft_length

_SIGMOID = 3  # exponential, sum, division
_GELU = 4  # scaling, error function, sum, product
_NORM = 8  # for each number: mean, variance, scaling, weight and bias
_MIXED = 7  # for each number that is a mixture of two tokens thrice: difference, three of 2
# Of a scan, for each number and position: what each block does alone, then what came before added.
_SUM_OF_TWO = 10  # two sums, each a product and a sum twice; their common factor, twice
_RUNNING_MAX = 6  # a sum and a maximum twice; the factor, twice


@dataclass(frozen=True)
class RivalFlops:
    """Operations of one block with another mixer than Hyena or attention, for the whole batch."""

    projections: float
    """Linear layers before the mixing."""
    products: float
    """Matrix products of the mixing; those that make a filter once a batch."""
    transforms: float
    """FFTs of the mixing; a filter's once a batch."""
    pointwise: float
    """Whatever is done number by number: gates, scans, products of spectra, powers of poles."""
    output: float
    """Linear layers after the mixing."""
    mlp: float
    """The two linear layers of the MLP."""

    @property
    def total(self) -> float:
        """The sum of the parts."""
        return sum(vars(self).values())

    @property
    def causal(self) -> float:
        """The same: what lies in the future is a part of a chunk at most."""
        return self.total


def rival_flops(config: ModelConfig, mixer: str, length: int, batch: int) -> RivalFlops:
    """Operations of a block with the mixer of that name, on ``batch`` rows of ``length`` tokens."""
    count = {
        "linear-attention": _linear_attention,
        "rwkv": _rwkv,
        "aft-conv": _aft_conv,
        "s4d": _s4d,
        "h3": _h3,
        "gss": _gss,
    }[mixer]
    return count(config, length, batch)


def _flops(
    config: ModelConfig,
    length: int,
    batch: int,
    *,
    before: float,
    after: float,
    pointwise: float,
    products: float = 0,
    transforms: float = 0,
) -> RivalFlops:
    """``before`` and ``after``: numbers in the weights of the linear layers."""
    positions = batch * length
    return RivalFlops(
        projections=2 * before * positions,
        products=products,
        transforms=transforms,
        pointwise=pointwise,
        output=2 * after * positions,
        mlp=2 * 2 * config.width * config.hidden * positions,
    )


def _linear_attention(config: ModelConfig, length: int, batch: int) -> RivalFlops:
    D, H = config.width, config.heads
    E = D // H
    C = min(max(E, SHORTEST), LONGEST)
    chunks = batch * H * -(-length // C)
    sums = E * (E + 1)  # kept from chunk to chunk
    return _flops(
        config,
        length,
        batch,
        before=3 * D * D,
        after=D * D,
        # queries with keys; the scores with values; keys with values; queries with the sums
        products=chunks * 2 * (C * C * E + C * C * (E + 1) + 2 * C * sums),
        # features, a maximum, an exponential and two more; the division; the sums' scan
        pointwise=batch * length * (2 * 4 * D + D + H) + chunks * (4 * sums + C * (E + 1)),
    )


def _rwkv(config: ModelConfig, length: int, batch: int) -> RivalFlops:
    D = config.width
    # kept: 3; weight and its product with v: 3; with the bonus: 1; the peak and what is scaled by
    # it: 5; the two sums and their division: 6; the gate
    mean = _RUNNING_MAX + 3 + 3 + _SUM_OF_TWO + 1 + 5 + 6
    pointwise = batch * length * D * (_MIXED + mean + _SIGMOID + 1)
    return _flops(config, length, batch, before=3 * D * D, after=D * D, pointwise=pointwise)


def _aft_conv(config: ModelConfig, length: int, batch: int) -> RivalFlops:
    D, K = config.width, config.local_width
    # kept: 2; weight and its product with v: 3; a product and a term for each tap and sum; division
    mean = _RUNNING_MAX + 2 + 3 + _SUM_OF_TWO + 2 * 3 * K + 1
    bias = D * K * (_NORM + 1)
    pointwise = batch * length * D * (mean + _SIGMOID + 1) + bias
    return _flops(config, length, batch, before=3 * D * D, after=D * D, pointwise=pointwise)


def _s4d(config: ModelConfig, length: int, batch: int) -> RivalFlops:
    D = config.width
    products, transforms, pointwise = _state_space(D, config.ssm.state, length, batch)
    gates = batch * length * D * (_GELU + _SIGMOID + 1)
    return _flops(
        config,
        length,
        batch,
        before=0,
        after=2 * D * D,
        products=products,
        transforms=transforms,
        pointwise=pointwise + gates,
    )


def _h3(config: ModelConfig, length: int, batch: int) -> RivalFlops:
    D, taps = config.width, min(config.ssm.state, length)
    products, transforms, pointwise = _state_space(D, config.ssm.state, length, batch)
    shift_transforms, shift_pointwise = _convolution(D, taps, length, batch)
    gates = 2 * batch * length * D
    return _flops(
        config,
        length,
        batch,
        before=3 * D * D,
        after=D * D,
        products=products,
        transforms=transforms + shift_transforms,
        pointwise=pointwise + shift_pointwise + D * taps + gates,
    )


def _gss(config: ModelConfig, length: int, batch: int) -> RivalFlops:
    D, H, wide = config.width, config.width // 4, 4 * config.width
    products, transforms, pointwise = _state_space(H, config.ssm.state, length, batch)
    gates = batch * length * ((_GELU + _NORM) * H + (_GELU + 1) * wide)
    return _flops(
        config,
        length,
        batch,
        before=D * H + D * wide,
        after=H * wide + wide * D,
        products=products,
        transforms=transforms,
        pointwise=pointwise + gates,
    )


def _state_space(channels: int, state: int, length: int, batch: int) -> tuple[float, float, float]:
    """Matrix products, transforms and the rest of diagonal state spaces, taps and convolution."""
    filters = state_space_filters(channels, state, length)
    transforms, pointwise = _convolution(channels, length, length, batch)
    return filters.products, transforms, filters.pointwise + pointwise


def _convolution(channels: int, taps: int, length: int, batch: int) -> tuple[float, float]:
    """Transforms and products of spectra: of each row one there and one back, of the filter one."""
    n = fft_length(length, taps, 0)
    return channels * (2 * batch + 1) * real_fft(n), channels * batch * spectrum_product(n)
