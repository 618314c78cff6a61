"""The implicit filter of images: a small network of the place, times a window that decays.

Sizes: D channels, H × W pixels, I × J taps, P = I·J places, W width of the network.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from hyena.arguments import check_whole, shown
from hyena.filters.encoding import Grid, encode, positions
from hyena.filters.network import window
from hyena.filters.plain import call_in
from hyena.filters.precision import wide, without_autocast
from hyena.ops.arguments import DEEPEST, check_numbers, check_sizes, placement

_LARGEST_SIDE = 2**15  # pixels, so that places can be counted in 32 bits


class HyenaFilter2d(nn.Module):
    r"""Filters as large as an image, as functions of the place (Poli et al. 2023, arXiv:2302.10866,
    appendix A.4).

    .. math:: h_{i,j} = e^{-|t_i|\,|\delta|} e^{-|t_j|\,|\delta'|} \cdot
        \mathrm{FFN}([\mathrm{Encoding}(t_i), \mathrm{Encoding}(t_j)])

    Encoding and FFN are those of `HyenaFilter`, the encoding once for each side: t_i is the lag i
    divided by H − 1, t_j the lag j divided by W − 1. The window is separable, a rate of decay for
    each channel and side, and so keeps the filters of different channels of different sizes. The
    paper gives no more than this; that lags are of both signs is ours, and ``causal`` is the other
    way to read it.

    Computed in float32 or wider, outside autocast, whatever the parameters' dtype.

    Args:
        channels: D.
        size: (H, W), of the largest image.
        emb_dim: of the encoding of each side, odd, ≥ 3.
        width, depth: of the FFN; depth counts its linear layers, ≥ 2.
        sine_freq: initial frequency of its sines. Higher is rougher.
        fast_decay, slow_decay: where the windows of the fastest and slowest channel have decayed to
            0.01 along one side, as a share of it.
        causal: lags from 0 on alone.
        device, dtype: of the parameters.

    Attributes:
        skip: weight of the direct path, (D,), drawn N(0, 1).
        decay: rates down and across, (2, D), fixed.

    Shape: filter() → (D, 2H − 1, 2W − 1) with lag 0 in the middle, or (D, H, W) if causal.
    Raises: ValueError on settings that cannot be.
    """

    decay: Tensor

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        *,
        emb_dim: int = 5,
        width: int = 64,
        depth: int = 4,
        sine_freq: float = 4.0,
        fast_decay: float = 0.3,
        slow_decay: float = 1.5,
        causal: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = "HyenaFilter2d"
        channels, width, emb_dim = check_sizes(
            name, channels=channels, width=width, emb_dim=emb_dim
        )
        (depth,) = check_sizes(name, most=DEEPEST, depth=depth)
        fast_decay, slow_decay, sine_freq = check_numbers(
            name, fast_decay=fast_decay, slow_decay=slow_decay, sine_freq=sine_freq
        )
        if emb_dim < 3 or emb_dim % 2 == 0:
            raise ValueError(f"{name}: expected an odd emb_dim ≥ 3, got {emb_dim}")
        if depth < 2:
            raise ValueError(f"{name}: expected depth ≥ 2 linear layers, got {depth}")
        if not 1e-3 <= fast_decay <= slow_decay:
            raise ValueError(
                f"{name}: expected 0.001 ≤ fast_decay ≤ slow_decay, got fast_decay={fast_decay}, "
                f"slow_decay={slow_decay}"
            )
        place = placement(name, device, dtype)
        self.channels, self.size, self.emb_dim = channels, checked_size(name, size), emb_dim
        self.causal = causal

        sizes = [2 * emb_dim] + [width] * (depth - 1)
        self.layers = nn.ModuleList([nn.Linear(a, b, **place) for a, b in pairwise(sizes)])
        self.layers.append(nn.Linear(width, channels, bias=False, **place))
        self.sine_freq = nn.Parameter(torch.full((width,), sine_freq, **place))
        self.skip = nn.Parameter(torch.empty(channels, **place))
        rates = torch.linspace(math.log(100) / slow_decay, math.log(100) / fast_decay, channels)
        self.register_buffer("decay", rates.expand(2, -1).clone().to(self.skip))
        self.draw()

    def draw(self, generator: torch.Generator | None = None) -> None:
        """Draws what is no layer's: the skip."""
        nn.init.normal_(self.skip, generator=generator)

    def forward(self) -> Tensor:
        """The filters, (D, I, J)."""
        with without_autocast(self.skip):
            grids = [self._grid(side) for side in self.size]
            down, across = (encode(positions(grid), grid) for grid in grids)  # (emb_dim, I), (…, J)
            shape = down.shape[1], across.shape[1]
            x = torch.cat(
                [down[:, :, None].expand(-1, *shape), across[:, None].expand(-1, *shape)]
            ).flatten(1)
            freq = self.sine_freq.to(x.dtype)
            x = x.t()  # (P, 2·emb_dim)
            *inner, last = self.layers
            for layer in inner:
                x = (freq * call_in(layer, x).to(freq.dtype)).sin()
            h = call_in(last, x).to(freq.dtype).t().unflatten(1, shape)
            rates = self.decay.to(h.dtype).abs()
            h = h * window(rates[0], down[0], 0.0)[:, :, None]
            return h * window(rates[1], across[0], 0.0)[:, None]

    def extra_repr(self) -> str:
        return f"channels={self.channels}, size={self.size}, causal={self.causal}"

    def _grid(self, side: int) -> Grid:
        dtype, device = wide(self.skip.dtype), self.skip.device
        return Grid(side, 1.0, not self.causal, side, self.emb_dim, dtype, device)


def checked_size(name: str, size: object) -> tuple[int, int]:
    """(H, W) as ints. Raises: ValueError unless they are two whole numbers of pixels."""
    if not (isinstance(size, tuple | list) and len(size) == 2):
        raise ValueError(f"{name}: expected size = (height, width) in pixels, got {shown(size)}")
    height, width = (
        check_whole(f"{name}: {side}", pixels, most=_LARGEST_SIDE)
        for side, pixels in zip(("height", "width"), size, strict=True)
    )
    return height, width
