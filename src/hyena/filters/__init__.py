"""Long filters: the implicit one of Hyena, its rivals, and how their taps are kept."""

from hyena.filters.diagonal_ssm import DiagonalSSM
from hyena.filters.explicit import ExplicitTaps
from hyena.filters.filter import Filter, LengthPolicy
from hyena.filters.fourier import FourierTaps
from hyena.filters.hyena import HyenaFilter
from hyena.filters.hyena2d import HyenaFilter2d
from hyena.filters.long import LongFilter, Taps
from hyena.filters.modal import ModalTaps, RealModalTaps
from hyena.filters.transfer_function import TransferFunctionTaps

__all__ = [
    "DiagonalSSM",
    "ExplicitTaps",
    "Filter",
    "FourierTaps",
    "HyenaFilter",
    "HyenaFilter2d",
    "LengthPolicy",
    "LongFilter",
    "ModalTaps",
    "RealModalTaps",
    "Taps",
    "TransferFunctionTaps",
]
