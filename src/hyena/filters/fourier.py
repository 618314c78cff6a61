"""Filters given by their lowest frequencies.

Sizes: D channels, F filters a channel, M modes, P period.
"""

import math

import torch
from torch import Tensor, nn

from hyena.arguments import LONGEST
from hyena.filters.drawing import draw_normal
from hyena.filters.flops import FilterFlops, real_fft
from hyena.filters.lengths import truncate
from hyena.filters.precision import wide, without_autocast
from hyena.ops.arguments import check_size, check_sizes, placement


class FourierTaps(nn.Module):
    r"""A filter that is a sum of few waves (Li et al. 2020, arXiv:2010.08895: FNO).

    .. math:: h_t = \frac{1}{P}\Big(\mathrm{Re}\,c_0
        + 2\,\mathrm{Re} \sum_{m=1}^{M-1} c_m e^{2\pi i m t / P}\Big)

    A Fourier neural operator multiplies the lowest modes of its input by weights and drops the
    others; these are the taps of that product. The period P is ``max_length``, the shortest with
    which no lag of an input so long must share its tap with another. A causal convolution takes
    lags 0 … L − 1 of it; beyond P the taps repeat.

    The weights c are drawn from a complex normal distribution of variance 1: a gain of about one
    for each mode, whatever the period.

    Args: channels D; modes M ≤ P/2 + 1; max_length P; filters F; the parameters' device, dtype.
    Shape: taps(L) → (F, D, L), in float32 or wider.
    Raises: ValueError if a size is below 1, or if the period has fewer modes.
    """

    def __init__(
        self,
        channels: int,
        modes: int,
        max_length: int,
        *,
        filters: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        channels, modes, filters = check_sizes(
            "FourierTaps", channels=channels, modes=modes, filters=filters
        )
        (max_length,) = check_sizes("FourierTaps", most=LONGEST, max_length=max_length)
        if modes > max_length // 2 + 1:
            raise ValueError(
                f"FourierTaps: max_length {max_length} has {max_length // 2 + 1} modes, but "
                f"{modes} were asked for; lower modes"
            )
        self.max_length = max_length
        place = placement("FourierTaps", device, dtype)
        self.weight = nn.Parameter(torch.empty(filters, channels, modes, 2, **place))
        self.draw()

    @torch.no_grad()
    def draw(self, generator: torch.Generator | None = None) -> None:
        """Draws the weights of the modes anew."""
        draw_normal(self.weight, std=math.sqrt(0.5), generator=generator)

    def forward(self, length: int) -> Tensor:
        """The taps of lags 0 … length − 1: (F, D, length)."""
        return self.of_channels(length, slice(None))

    def of_channels(self, length: int, channels: slice) -> Tensor:
        """The taps (F, d, length) of a slice of the channels."""
        length = check_size("FourierTaps", "length", length, 1)
        with without_autocast(self.weight):
            weight = self.weight[:, channels].to(wide(self.weight.dtype)).contiguous()
            h = torch.fft.irfft(torch.view_as_complex(weight), n=self.max_length)
            return truncate(h.repeat(1, 1, length // self.max_length + 1), length)

    def flops(self, length: int) -> FilterFlops:
        """Operations of the taps for inputs of this length."""
        rows = self.weight.shape[0] * self.weight.shape[1]
        return FilterFlops(0, rows * real_fft(self.max_length), 0)

    def extra_repr(self) -> str:
        filters, channels, modes, _ = self.weight.shape
        return (
            f"channels={channels}, modes={modes}, max_length={self.max_length}, filters={filters}"
        )
