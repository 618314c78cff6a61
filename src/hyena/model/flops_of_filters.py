"""Floating point operations that make long filters, once a batch, by kind of filter.

Sizes: D channels, F filters a channel, n numbers in a channel's state, L length.
"""

from math import isqrt
from typing import NamedTuple

from hyena.filters.transfer_function import reciprocal_length
from hyena.model.config import FilterConfig, ModelConfig
from hyena.model.flops_of_convolutions import PRODUCT, real_fft, spectrum_product
from hyena.ops.fft import fast_length

_RECIPROCAL = 6  # of a complex number: its squared modulus, and two divisions with a sign
_POWER = 7  # e^{z·t} of a complex z: its phase and modulus, exponential, cosine, sine, two products


class FilterFlops(NamedTuple):
    """Operations that make filters; their own transform in the convolution is not among them."""

    products: float  # in matrix products
    transforms: float  # in FFTs
    pointwise: float  # the rest, and the skip


def hyena_filters(config: ModelConfig, length: int) -> FilterFlops:
    """Those of a Hyena operator of a model, for inputs of ``length``."""
    rows = (config.order - 1) * config.width
    filter = config.filter
    if filter.kind == "explicit":
        return FilterFlops(0, 0, rows * length)
    if filter.kind == "fourier":
        return FilterFlops(0, rows * real_fft(config.max_length), rows * length)
    if filter.kind == "s4d":
        return state_space_filters(rows, config.filter_state, length)
    if filter.kind == "transfer-function":
        return _transfer_function(rows, filter.degree, length)
    if filter.kind == "hyena":
        return _network(filter, rows, length)
    raise ValueError(f"the operations of filters of kind {filter.kind} are not counted")


def state_space_filters(rows: int, state: int, length: int) -> FilterFlops:
    """The taps of so many channels of a `hyena.filters.DiagonalSSM` and their skips.

    Blocks of positions, see `hyena.filters.exponentials`: powers within a block and of all blocks'
    first positions, weights on the latter, and a matrix product of both.
    """
    block = isqrt(length - 1) + 1
    blocks = -(-length // block)
    poles = state // 2
    powers = poles * (_POWER * (block + blocks) + PRODUCT * blocks)
    return FilterFlops(rows * 2 * blocks * block * state, 0, rows * (powers + length))


def _network(filter: FilterConfig, rows: int, length: int) -> FilterFlops:
    inner = (filter.depth - 2) * filter.width**2
    products = filter.emb_dim * filter.width + inner + filter.width * rows
    encoding = 0 if filter.train_encoding else 3 * (filter.emb_dim - 1) // 2  # phase, cos, sin
    sines = (filter.depth - 1) * filter.width
    # window: decay · t, exponential, shift, product; normalisation: modulus, sum, division; skip
    per_tap = (4 if filter.window else 0) + (3 if filter.normalized else 0) + 1
    return FilterFlops(2 * length * products, 0, length * (encoding + sines + rows * per_tap))


def _transfer_function(rows: int, degree: int, length: int) -> FilterFlops:
    """The denominator's recursion, its reciprocal and the product with the numerator."""
    taps = min(degree + 1, length)
    n, points = fast_length(length + taps - 1), reciprocal_length(length, degree)
    transforms = 3 * real_fft(n) + 2 * real_fft(points)
    # the weights of the circle on a and on 1/a, and reciprocals of complex numbers
    inverse = degree + 1 + length + _RECIPROCAL * (points // 2 + 1)
    pointwise = degree * (degree + 3) + inverse + spectrum_product(n) + length
    return FilterFlops(0, rows * transforms, rows * pointwise)
