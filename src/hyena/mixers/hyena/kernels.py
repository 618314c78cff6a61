"""What an operator's long convolutions are made with: taps, their spectra, or modes.

The native kernel sums few taps as they are, and modes along the sequence, where that is less work
than transforms; nothing else does, so both are asked of a filter and a length.

Sizes: F filters, D channels, K taps, n modes.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeGuard

import torch
from torch import Tensor

from hyena.filters import HyenaFilter, LongFilter
from hyena.ops import Backend, FilterSpectrum
from hyena.ops.native import library, operator

BY_MODES = 2048
"""Positions from which on sums over modes are quicker than taps, where a call makes these anew."""
BY_MODES_KEPT = 4096
"""And than a spectrum that is at hand; twice as many where modes are complex."""
MOST_NUMBERS = 16
"""Real numbers of a channel's modes, two of a complex one, up to which that is so."""


class Modes(NamedTuple):
    """A long filter as a sum of exponentials, h_t = Re Σ weight · e^{t · log_decay}."""

    log_decay: Tensor  # (D, n), real or complex
    weight: Tensor


OfTaps = tuple[Tensor | FilterSpectrum, Tensor | None]
"""The taps (D, K) of a long convolution and its skip, or their spectrum, of which the skip is
part."""

Kernel = tuple[Tensor | FilterSpectrum | Modes, Tensor | None]
"""The same, or its modes and its skip."""


def are_taps(kernels: Sequence[Kernel]) -> TypeGuard[Sequence[OfTaps]]:
    """Whether they are taps or spectra: an operator's are all modes or none."""
    return not any(isinstance(h, Modes) for h, _ in kernels)


def finite_taps(filter: HyenaFilter | LongFilter) -> int:
    """K of filters that end, if a state of generation can hold what they reach; else 0."""
    return (filter.finite or 0) if isinstance(filter, LongFilter) else 0


def sums_taps(filter: HyenaFilter | LongFilter, backend: Backend, length: int) -> bool:
    """Whether the kernel sums the taps one by one in rows of this length, so that their spectrum
    would be of no use."""
    taps = finite_taps(filter)
    return taps > 0 and _reach_the_kernel(filter, backend) and operator.in_time_domain(taps, length)


def sums_modes(
    filter: HyenaFilter | LongFilter, backend: Backend, length: int, *, kept: bool
) -> bool:
    """Whether the kernel sums the filter's modes along rows of this length, where spectra would be
    ``kept`` or not."""
    sizes = filter.modes_sizes if isinstance(filter, LongFilter) else None
    if sizes is None or not _reach_the_kernel(filter, backend):
        return False
    modes, numbers = sizes
    if not kept:
        return length >= BY_MODES
    return length >= numbers * BY_MODES_KEPT and modes * numbers <= MOST_NUMBERS


def modes_of(filter: LongFilter, length: int, channels: slice) -> list[Kernel]:
    """Those of each filter, of a range of the channels.

    Raises: ValueError on a length that the filter's policy refuses.
    """
    filter.check_growth(length)
    parts = zip(*filter.modes(channels), filter.direct[:, channels], strict=True)
    return [(Modes(log_decay, weight), skip) for log_decay, weight, skip in parts]


def _reach_the_kernel(filter: HyenaFilter | LongFilter, backend: Backend) -> bool:
    """Whether there is a kernel and convolutions with this filter are for it; on the CPU, if the
    filter is on the device meta."""
    like = filter.direct
    return (
        backend in ("auto", "native")
        and library.outcome.kernel is not None
        and like.device.type in ("cpu", "meta")
        and like.dtype != torch.float64
    )
