"""Filters given tap by tap.

Sizes: D channels, F filters a channel, K taps.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hyena.filters.flops import FilterFlops
from hyena.filters.lengths import truncate
from hyena.filters.precision import wide
from hyena.ops.arguments import check_size, check_sizes, placement
from hyena.ops.observed import exporting


class ExplicitTaps(nn.Module):
    """A depthwise convolution's taps, each a parameter; zero from lag ``taps`` on.

    The Conv1d of Poli et al. 2023 (arXiv:2302.10866, App. A.1). Initialised as `torch.nn.Conv1d`
    does: uniform within ±1/√K.

    Args: channels D; taps K; filters F; device and dtype of the parameters.
    Shape: taps(L) → (F, D, L), in float32 or wider.
    Raises: ValueError if a size is below 1.
    """

    def __init__(
        self,
        channels: int,
        taps: int,
        *,
        filters: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        channels, taps, filters = check_sizes(
            "ExplicitTaps", channels=channels, taps=taps, filters=filters
        )
        place = placement("ExplicitTaps", device, dtype)
        self.weight = nn.Parameter(torch.empty(filters, channels, taps, **place))
        self.draw()

    @torch.no_grad()
    def draw(self, generator: torch.Generator | None = None) -> None:
        """Draws the taps anew."""
        bound = 1 / math.sqrt(self.weight.shape[-1])
        nn.init.uniform_(self.weight, -bound, bound, generator=generator)

    def forward(self, length: int) -> Tensor:
        """The taps of lags 0 … length − 1: (F, D, length)."""
        return self.of_channels(length, slice(None))

    def of_channels(self, length: int, channels: slice) -> Tensor:
        """The taps (F, d, length) of a range of the channels."""
        length = check_size("ExplicitTaps", "length", length, 1)
        taps = self.weight[:, channels].to(wide(self.weight.dtype))
        if exporting():  # for any length, of which no program could tell which pads and which crops
            return truncate(F.pad(taps, (0, length)), length)
        return F.pad(taps, (0, length - taps.shape[-1]))

    def flops(self, length: int) -> FilterFlops:
        """Operations of the taps for inputs of this length."""
        return FilterFlops(0, 0, 0)

    def extra_repr(self) -> str:
        filters, channels, taps = self.weight.shape
        return f"channels={channels}, taps={taps}, filters={filters}"
