"""Positions as the filter's network sees them: time and waves."""

import math
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from hyena.filters.parts import by_parts, parts
from hyena.ops.observed import observer

KEPT_BYTES = 1 << 26  # of the encoding of one length; 500,000 positions of 33 float32


class Grid(NamedTuple):
    """Which positions, and what they are encoded for."""

    length: int
    scale: float  # of the positions, other than 1 where they are interpolated
    bidirectional: bool
    max_length: int
    emb_dim: int
    dtype: torch.dtype
    device: torch.device

    @property
    def kept(self) -> bool:
        """Whether the encoding is small enough to be kept; else it is made part by part."""
        lags = 2 * self.length - 1 if self.bidirectional else self.length
        return self.emb_dim * lags * self.dtype.itemsize <= KEPT_BYTES


def positions(grid: Grid) -> Tensor:
    """0 … L − 1, or −(L−1) … L − 1 if bidirectional, scaled."""
    start = 1 - grid.length if grid.bidirectional else 0
    n = torch.arange(start, grid.length, device=grid.device).to(grid.dtype)
    return n if grid.scale == 1.0 else n * grid.scale


def encode(n: Tensor, grid: Grid) -> Tensor:
    """The encoding of positions (P,), any of the grid's: (emb_dim, P), time in row 0."""
    bands = (grid.emb_dim - 1) // 2
    f = torch.linspace(1e-4, bands - 1, bands, dtype=grid.dtype, device=grid.device)
    phase = f[:, None] * (2 * math.pi * n / grid.max_length)
    return torch.cat([time_of(n, grid)[None], phase.cos(), -phase.sin()])


def time_of(n: Tensor, grid: Grid) -> Tensor:
    """The time of positions."""
    return n / max(grid.max_length - 1, 1)


def read_table(encoding: Tensor, time: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """The same out of tables (positions, emb_dim) and (positions,), between rows if rescaled."""
    middle = grid.max_length - 1 if grid.bidirectional else 0
    if grid.scale == 1.0:
        first = middle - (grid.length - 1) if grid.bidirectional else 0
        rows = slice(first, middle + grid.length)
        return encoding[rows].t(), time[rows]
    # Not by `F.interpolate`, whose backward on CUDA adds in another order each time.
    last = encoding.shape[0] - 1
    place = (positions(grid) + middle).clamp(0, last)
    low = place.floor().long()
    high = (low + 1).clamp(max=last)
    weight = place - low
    mixed = torch.lerp(encoding[low], encoding[high], weight[:, None])
    return mixed.t(), torch.lerp(time[low], time[high], weight)


_shared: WeakValueDictionary[Grid, Tensor] = WeakValueDictionary()


class KeptEncoding:
    """The encoding that a filter used last, one for all filters that use the same.

    It depends on no parameter, so it is no part of a filter's state. On accelerators, where it is
    cheap and a captured graph may own it, it is computed each time; so it is where anything but
    autograd looks on, so that no tracer's stand-in is kept.
    """

    def __init__(self) -> None:
        self._latest: tuple[Grid, Tensor] | None = None

    def get(self, grid: Grid, parameter: Tensor) -> Tensor:
        """What `encode` gives of all positions, for use beside ``parameter``."""
        unfit = grid.device.type != "cpu" or observer((parameter,)) not in ("nobody", "autograd")
        if unfit or not grid.kept:
            return encode(positions(grid), grid)
        latest = self._latest
        if latest is None or latest[0] != grid:
            encoding = _shared.get(grid)
            if encoding is None:  # an ordinary tensor, even if first asked for in inference mode
                with torch.inference_mode(False), torch.no_grad():
                    n = positions(grid)
                    slices = parts(n.shape[0], grid.emb_dim, grid.device)
                    encoding = by_parts(lambda n: encode(n, grid), slices, 1, n)
            latest = self._latest = grid, encoding
            _shared[grid] = encoding
        return latest[1]

    def __deepcopy__(self, memo: dict[int, Any]) -> "KeptEncoding":
        return KeptEncoding()

    def __reduce__(self) -> tuple[type["KeptEncoding"], tuple[()]]:
        return KeptEncoding, ()
