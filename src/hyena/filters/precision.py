"""Filters are computed in float32 or wider, also where autocast is on."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """A context in which autocast is off on the device of ``x``."""
    if x.is_meta:  # which has no autocast to turn off
        return nullcontext()
    return torch.autocast(x.device.type, enabled=False)


def wide(dtype: torch.dtype) -> torch.dtype:
    """``dtype``, or float32 if that is wider."""
    return torch.promote_types(dtype, torch.float32)


def widest(device: torch.device) -> torch.dtype:
    """float64, or float32 on MPS, which has no wider one."""
    return torch.float32 if device.type == "mps" else torch.float64
