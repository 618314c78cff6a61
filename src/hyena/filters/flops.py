"""Floating point operations of FFTs, of long convolutions made of them, and of making filters.

A matrix product of (m, k) and (k, n) is 2·m·k·n, its bias free, as in PyTorch's flop counter. A
sine, a cosine, an exponential or a division is 1. A real FFT of size n is 2.5·n·log2 n, and the
transforms are those of PyTorch's backend; the native kernel's are as large. They are counted also
where the kernel sums few taps or modes in their place (``docs/kernel.md``): a count depends on no
machine.

Sizes: L length, K taps.
"""

from math import log2
from typing import NamedTuple

from hyena.ops.block_causal import LEAF, levels
from hyena.ops.fft import fft_length

PRODUCT = 6  # a complex product: four products and two sums
RECIPROCAL = 6  # of a complex number: its squared modulus, and two divisions with a sign
POWER = 7  # e^{z·t} of a complex z: its phase and modulus, exponential, cosine, sine, two products


class FilterFlops(NamedTuple):
    """Operations that make filters, once a batch; their own transform in the convolution is not
    among them."""

    products: float  # in matrix products
    transforms: float  # in FFTs
    pointwise: float  # the rest
    # Of all these, what is made whole for any range of the channels, such as hidden layers.
    shared: float = 0.0


def convolution(taps: int, length: int, lead: int = 0) -> tuple[float, float]:
    """Of a long convolution of one row and channel, and of its filter's transform; ``lead`` of the
    taps are for the future."""
    n = fft_length(length, taps, lead)
    return 2 * real_fft(n) + spectrum_product(n), real_fft(n)


def block_causal_convolution(length: int) -> tuple[float, float]:
    """The same for a block-causal one with as many taps, see `hyena.ops.block_causal`."""
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
