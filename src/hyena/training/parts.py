"""Tensors of which each process keeps a part: whole for a checkpoint, and in parts again.

All processes call these functions together, since they exchange the parts.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor


def is_in_parts(module: nn.Module) -> bool:
    """Whether something in it is kept in parts."""
    return any(isinstance(each, FSDPModule) for each in module.modules())


def whole(x: Tensor) -> Tensor:
    """All of a tensor, on each process."""
    return x.full_tensor() if isinstance(x, DTensor) else x


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
    if not isinstance(like, DTensor):
        return x
    return distribute_tensor(x, like.device_mesh, like.placements, src_data_rank=None)
