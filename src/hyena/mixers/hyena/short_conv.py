"""The short convolution of a Hyena operator, as a layer.

Sizes: B batch, C channels, L length, K taps.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from hyena.filters.plain import is_plain
from hyena.ops import Segments, short_conv


class ShortConv(nn.Module):
    """Depthwise convolution of C channels with K taps, and a ``bias`` if it has one, on (B, C, L).

    ``weight`` (C, K): tap j has lag j, or j − (K−1)/2 if not causal. Initialised as
    `torch.nn.Conv1d` does: uniform within ±1/√K.
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        channels: int,
        taps: int,
        *,
        causal: bool = True,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.channels, self.taps, self.causal = channels, taps, causal
        self.weight = nn.Parameter(torch.empty(channels, taps, device=device, dtype=dtype))
        added = torch.empty(channels, device=device, dtype=dtype) if bias else None
        self.register_parameter("bias", None if added is None else nn.Parameter(added))
        self.draw()

    @torch.no_grad()
    def draw(self, generator: torch.Generator | None = None) -> None:
        """Draws taps and bias anew."""
        bound = 1 / math.sqrt(self.taps)
        nn.init.uniform_(self.weight, -bound, bound, generator=generator)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound, generator=generator)

    def forward(self, u: Tensor, segments: Segments | None = None) -> Tensor:
        return short_conv(u, self.weight, self.bias, causal=self.causal, segments=segments)

    def extra_repr(self) -> str:
        return f"channels={self.channels}, taps={self.taps}, causal={self.causal}"

    def by_lag(self) -> tuple[Tensor, Tensor]:
        """Taps by lag, (K, C), and the bias, in float32 and without gradients."""
        taps = self.weight.detach().float().t().contiguous()
        return taps, bias_of(self).detach().float()


def short_conv_step(layer: nn.Module, u: Tensor, before: Iterable[Tensor]) -> Tensor:
    """One position of a `ShortConv`, or of what stands around it: u (B, C) and the K − 1 inputs
    before it, the latest first → (B, C)."""
    if not is_plain(layer, ShortConv):  # what else a call does counts here too
        window = torch.stack([*reversed(list(before)), u], dim=-1)
        y: Tensor = layer(window)
        return y[..., -1]
    first, *others = layer.weight.unbind(1)
    y = u * first if layer.bias is None else torch.addcmul(layer.bias, u, first)
    for tap, x in zip(others, before, strict=True):
        y = torch.addcmul(y, x, tap)
    return y if y.dtype == u.dtype else y.to(u.dtype)


def bias_of(layer: nn.Linear | ShortConv) -> Tensor:
    """The bias, (C,), or zeros without gradient if there is none."""
    return layer.weight.new_zeros(len(layer.weight)) if layer.bias is None else layer.bias
