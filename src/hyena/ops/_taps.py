"""A filter's taps: which of them reach into the sequence, and what is added to them."""

from typing import overload

import torch
from torch import Tensor
from torch.nn import functional as F


@overload
def narrow(x: Tensor) -> Tensor: ...
@overload
def narrow(x: None) -> None: ...
def narrow(x: Tensor | None) -> Tensor | None:
    """As the kernel takes what is beside the input: float32."""
    return None if x is None else x.to(torch.float32)


def lead_of(k: Tensor, causal: bool) -> int:
    """How many taps have negative lags."""
    return 0 if causal else (k.shape[1] - 1) // 2


def crop(k: Tensor, length: int, causal: bool) -> Tensor:
    """Without the taps that reach past the sequence: their lag is ``length`` or more."""
    length = max(length, 1)
    if causal:
        return k[:, :length]
    excess = (k.shape[1] - 1) // 2 - (length - 1)
    return k if excess <= 0 else k[:, excess : k.shape[1] - excess]


def fold_skip(k: Tensor, skip: Tensor | None, causal: bool) -> Tensor:
    """skip · u is a tap at lag 0."""
    if skip is None:
        return k
    lead = lead_of(k, causal)
    dtype = torch.promote_types(torch.promote_types(k.dtype, skip.dtype), torch.float32)
    return k.to(dtype) + F.pad(skip.to(dtype)[:, None], (lead, k.shape[1] - 1 - lead))
