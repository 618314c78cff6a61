"""Floating point operations of FFTs and of the long convolutions made of them.

A real FFT of size n is 2.5·n·log2 n. Sizes: L length, K taps.
"""

from math import log2

from hyena.ops.block_causal import LEAF, levels
from hyena.ops.fft import fft_length

PRODUCT = 6  # a complex product: four products and two sums


def whole_row(length: int) -> tuple[float, float]:
    """Operations of a long convolution of one row and channel, and of its filter's transform."""
    n = fft_length(length, length, 0)
    return 2 * real_fft(n) + spectrum_product(n), real_fft(n)


def by_halves(length: int) -> tuple[float, float]:
    """The same for a block-causal one, see `hyena.ops.block_causal`."""
    leaf = min(LEAF, length)
    row, filter_fft = 2.0 * leaf * leaf * -(-length // leaf), 0.0
    for level in levels(length, length):
        n = fft_length(level.reach, 2 * level.reach - 1, level.reach - 1)
        row += level.blocks * (2 * real_fft(n) + spectrum_product(n) + level.reach)
        filter_fft += real_fft(n)
    return row, filter_fft


def real_fft(n: int) -> float:
    """A real FFT of size n, or one back."""
    return 2.5 * n * log2(n)


def spectrum_product(n: int) -> int:
    """The product of two spectra of real FFTs of size n."""
    return PRODUCT * (n // 2 + 1)
