"""Whether the kernel may take tensors: it sees addresses, and nothing of what looks on."""

import torch
from torch import Tensor

from hyena.ops.native import library
from hyena.ops.native._abi import DTYPES
from hyena.ops.observed import differentiated, recorded, transformed


def applies(*tensors: Tensor | None) -> bool:
    """Whether the kernel is loaded and can take an input and the filters beside it."""
    u = tensors[0]
    assert u is not None
    if library.kernel() is None or not u.is_cpu or u.dtype not in DTYPES:
        return False
    for x in tensors:
        if x is not None and x.dtype == torch.float64:
            return False
    return not transformed()


def eager(*tensors: Tensor | None) -> bool:
    """Whether the kernel takes these tensors at once, with no gradient and nothing looking on."""
    return applies(*tensors) and not recorded(tensors) and not differentiated(tensors)
