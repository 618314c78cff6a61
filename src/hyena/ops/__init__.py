"""Convolutions: each op has one public function, one naive definition and its backends.

This package imports only torch. Sizes: B batch, D channels, L length, K filter taps.
"""

from hyena.ops import naive
from hyena.ops.backend import Backend, backends, why_not_native
from hyena.ops.long import FilterSpectrum, filter_spectrum, long_conv
from hyena.ops.segments import Segments
from hyena.ops.short import short_conv

__all__ = [
    "Backend",
    "FilterSpectrum",
    "Segments",
    "backends",
    "filter_spectrum",
    "long_conv",
    "naive",
    "short_conv",
    "why_not_native",
]
