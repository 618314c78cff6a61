"""FFT sizes: fast, and just long enough that nothing wraps around."""

import pytest
import torch
from comparison import assert_close
from hypothesis import given
from hypothesis import strategies as st

from hyena.ops import fft, naive

FAST = sorted(odd * 2**a for odd in (1, 3, 5, 9, 15) for a in range(1, 24))


@given(st.integers(-3, 1 << 22))
def test_the_smallest_fast_size(minimum: int) -> None:
    assert fft.fast_length(minimum) == next(size for size in FAST if size >= minimum)


@given(st.integers(2, 1 << 22))
def test_at_most_a_third_is_wasted(minimum: int) -> None:
    assert minimum <= fft.fast_length(minimum) <= 4 * minimum / 3


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 40))
def test_nothing_wraps_around(length: int, taps: int, lead: int) -> None:
    lead = min(lead, taps - 1, length - 1)
    n = fft.fft_length(length, taps, lead)
    first, last = -lead, length - 1 + taps - 1 - lead  # where the linear convolution is not zero
    assert first + n >= length
    assert last - n < 0


@pytest.mark.parametrize("causal", [True, False])
def test_the_tightest_sizes_are_exact(causal: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    for L in range(1, 20):
        K = L if causal else 2 * L - 1
        u = torch.randn(1, 2, L, generator=generator, dtype=torch.float64)
        k = torch.randn(2, K, generator=generator, dtype=torch.float64)
        y = fft.convolve(u, k, 0 if causal else L - 1)
        assert_close(y, naive.long_conv(u, k, causal=causal), 1e-13)
