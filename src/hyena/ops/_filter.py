"""A long convolution's filter: the taps that reach into the sequence, or its spectrum."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class FilterSpectrum(NamedTuple):
    """A filter transformed once for inputs of one length; made by `filter_spectrum`."""

    values: Tensor  # (D, n/2 + 1) complex, or in the order of the kernel's transform
    channels: int  # D
    n: int  # size of the transform
    length: int  # L it was made for
    lead: int  # taps of negative lag
    causal: bool
    layout: str  # "fft" for PyTorch's rfft, else the build of the kernel


def crop(k: Tensor, lead: int, length: int) -> tuple[Tensor, int]:
    """Without the taps that reach past the sequence, their lag ``length`` or more; and its lead."""
    first = max(lead - (length - 1), 0)
    if first == 0 and k.shape[1] <= lead + length:
        return k, lead
    return k[:, first : lead + length], lead - first


def fold_skip(k: Tensor, skip: Tensor | None, lead: int, dtype: torch.dtype) -> Tensor:
    """skip · u, for u of this dtype, is a tap at lag 0; in float32 or wider."""
    if skip is None:
        return k
    for other in (k.dtype, skip.dtype, torch.float32):
        dtype = torch.promote_types(dtype, other)
    return k.to(dtype) + F.pad(skip.to(dtype)[:, None], (lead, k.shape[1] - 1 - lead))


def of_each_channel(x: Tensor, channels: int) -> Tensor:
    """(D, …) of x (G, …), each row for D/G consecutive channels; x itself where G does not divide
    D."""
    groups = x.shape[0]
    if groups == channels or groups == 0 or channels % groups:
        return x
    return x[:, None].expand(-1, channels // groups, *x.shape[1:]).flatten(0, 1)


def for_channels(u: Tensor, k: Tensor) -> Tensor:
    """`of_each_channel` of taps k (G, K) for u (B, D, L); of what these are not, k itself."""
    for x, dimensions in ((u, 3), (k, 2)):
        if not isinstance(x, Tensor) or x.layout is not torch.strided or x.dim() != dimensions:
            return k
    return of_each_channel(k, u.shape[1])
