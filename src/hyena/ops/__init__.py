"""Convolutions: each op has one public function, one naive definition and its backends.

This package imports only torch. Sizes: B batch, D channels, L length, K filter taps.
"""

from hyena.ops import naive
from hyena.ops.backend import Backend, backends, why_not_native
from hyena.ops.gated import gated_conv
from hyena.ops.long import long_conv
from hyena.ops.long2d import long_conv2d
from hyena.ops.modal import gated_modal_conv, modal_conv
from hyena.ops.segments import Segments
from hyena.ops.short import short_conv
from hyena.ops.spectrum import FilterSpectrum, filter_spectrum

__all__ = [
    "Backend",
    "FilterSpectrum",
    "Segments",
    "backends",
    "filter_spectrum",
    "gated_conv",
    "gated_modal_conv",
    "long_conv",
    "long_conv2d",
    "modal_conv",
    "naive",
    "short_conv",
    "why_not_native",
]
