"""Filters given tap by tap.

Sizes: D channels, F filters a channel, G groups of channels, K taps.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hyena.filters.flops import FilterFlops
from hyena.filters.groups import check_groups, over_channels
from hyena.filters.lengths import truncate
from hyena.filters.precision import wide
from hyena.ops.arguments import check_size, check_sizes, placement
from hyena.ops.observed import exporting

_DECAYS = 0.0, 2.0  # log10 of the first and the last group's, over all taps


class ExplicitTaps(nn.Module):
    r"""A depthwise convolution's taps, each a parameter; zero from lag ``taps`` on.

    The Conv1d of Poli et al. 2023 (arXiv:2302.10866, App. A.1); with groups and a short or a
    regularised medium length the SE and MR filters of Ku et al. 2025 (arXiv:2503.01868).
    Initialised as `torch.nn.Conv1d` does: uniform within ±1/√K.

    Args:
        channels: D.
        taps: K.
        filters: F.
        groups: G filters, each of D/G neighbouring channels; None is one a channel.
        decay: multiply the taps by a fixed window, :math:`e^{-a_g j/(K-1)}` at lag j, whose rates
            :math:`a_g` go from 1 for the first group to 100 for the last, evenly on a logarithmic
            scale. It is no part of the parameters.
        device, dtype: of the parameters.

    Attributes: ``weight`` (F, G, K), without the window.
    Shape: taps(L) → (F, D, L), in float32 or wider.
    Raises: ValueError if a size is below 1, and if the groups do not divide the channels.
    """

    def __init__(
        self,
        channels: int,
        taps: int,
        *,
        filters: int = 1,
        groups: int | None = None,
        decay: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        channels, taps, filters = check_sizes(
            "ExplicitTaps", channels=channels, taps=taps, filters=filters
        )
        self.channels, self.decay = channels, decay
        self.groups = check_groups("ExplicitTaps", channels, groups)
        place = placement("ExplicitTaps", device, dtype)
        self.weight = nn.Parameter(torch.empty(filters, self.groups, taps, **place))
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
        """The taps (F, d, length) of a slice of the channels."""
        length = check_size("ExplicitTaps", "length", length, 1)
        size = self.channels // self.groups
        taps = over_channels(self._of_groups, self.groups, size, channels)
        if exporting():  # for any length, of which no program could tell which pads and which crops
            return truncate(F.pad(taps, (0, length)), length)
        return F.pad(taps, (0, length - taps.shape[-1]))

    @property
    def support(self) -> int:
        """K: the taps of lag K and beyond are zero."""
        return self.weight.shape[-1]

    def flops(self, length: int) -> FilterFlops:
        """Operations of the taps for inputs of this length: of a window, rate · time, exponential
        and product."""
        return FilterFlops(0, 0, 3 * self.weight.numel() if self.decay else 0)

    def extra_repr(self) -> str:
        filters, groups, taps = self.weight.shape
        return f"channels={self.channels}, taps={taps}, filters={filters}, groups={groups}"

    def _of_groups(self, groups: slice) -> Tensor:
        """(F, g, K)"""
        taps = self.weight[:, groups].to(wide(self.weight.dtype))
        if not self.decay:
            return taps
        place: dict[str, Any] = {"dtype": taps.dtype, "device": taps.device}
        rate = torch.logspace(*_DECAYS, self.groups, **place)[groups]
        return taps * torch.exp(-rate[:, None] * torch.linspace(0, 1, taps.shape[-1], **place))
