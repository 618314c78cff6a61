"""The mean of a loss over the targets of all processes."""

from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist
from torch.distributed import ProcessGroup

from hyena.arguments import IGNORE


def mean_over(group: ProcessGroup, mean: Tensor, targets: Tensor) -> Tensor:
    """The mean over all targets, the same on every process, from that over those that are here.

    The gradient on a process is P times that of its own targets' share, P processes: their mean,
    which data parallel training takes, is the gradient.

    Args: mean, a scalar, nan where no target is; targets, `hyena.arguments.IGNORE` where none is.
    """
    count = (targets != IGNORE).sum().to(mean.device)
    total = torch.where(count > 0, mean, 0) * count
    found: Tensor = _Mean.apply(total, count, group)
    return found


class _Mean(torch.autograd.Function):
    """(Sum here, number here) → the mean of all."""

    @staticmethod
    def forward(ctx: Any, total: Tensor, count: Tensor, group: ProcessGroup) -> Tensor:
        both = torch.stack([total.double(), count.double()])
        dist.all_reduce(both, group=group)
        ctx.factor = dist.get_world_size(group) / both[1].clamp(min=1)
        return (both[0] / both[1]).to(total.dtype)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
        return dy * ctx.factor.to(dy.dtype), None, None
