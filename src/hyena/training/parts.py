"""Tensors of which each process keeps a part: whole for a checkpoint, and in parts again.

All processes call these functions together, since they exchange the parts.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeGuard

from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def is_in_parts(module: nn.Module) -> bool:
    """Whether something in it is kept in parts."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    return fsdp is not None and any(isinstance(x, fsdp.FSDPModule) for x in module.modules())


def _is_part(x: Tensor) -> TypeGuard[DTensor]:
    # PyTorch's module is slow to import, and before somebody has there is nothing of its classes.
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(x, module.DTensor)


def whole(x: Tensor) -> Tensor:
    """All of a tensor, on each process."""
    return x.full_tensor() if _is_part(x) else x


def all_whole(tensors: Mapping[str, Tensor], *, keep: bool) -> dict[str, Tensor]:
    """All of each tensor, one after the other; nothing where it is not to be kept, as by most
    processes. What was in parts is on the CPU then."""
    found = {}
    for name, x in tensors.items():
        all_of_it = whole(x)
        if keep:
            found[name] = x if all_of_it is x else all_of_it.cpu()
    return found


def in_parts_as(x: Tensor, like: Tensor) -> Tensor:
    """Of a tensor that is whole on each process, what this one keeps of another one like it."""
    if not _is_part(like):
        return x
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(x, like.device_mesh, like.placements, src_data_rank=None)
