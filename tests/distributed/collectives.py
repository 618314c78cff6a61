"""What collectives are told to send, counted as they are called."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch import distributed as dist
from torch.utils._python_dispatch import TorchDispatchMode


def tensors(args: Any) -> list[Tensor]:
    """All in nested lists, in their order."""
    if isinstance(args, Tensor):
        return [args]
    if isinstance(args, list | tuple):
        return [x for each in args for x in tensors(each)]
    return []


class Collectives(TorchDispatchMode):
    """Counts the bytes that this rank sends to others; a ring's as `hyena.distributed.cost` has it.

    Attributes: ``bytes``; ``unknown``, collectives that it cannot count.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes, self.unknown = 0.0, set[str]()

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if op.namespace in ("c10d", "_c10d_functional"):
            self.count(op._opname, args)
        return op(*args, **(kwargs or {}))

    def count(self, name: str, args: Any) -> None:
        if any(word in name for word in ("wait", "barrier", "wrap", "broadcast")):
            return  # DistributedDataParallel broadcasts once in which order it reduces
        given, world = tensors(args), dist.get_world_size()
        if name == "all_to_all_single":
            sizes = list(args[2])
            del sizes[dist.get_rank()]
            self.bytes += sum(sizes) * args[0].itemsize
        elif name.startswith(("allreduce", "all_reduce")):
            self.bytes += 2 * (world - 1) / world * sum(x.nbytes for x in given)
        elif name.strip("_").startswith(("allgather", "all_gather", "reduce_scatter")):
            self.bytes += (world - 1) / world * max(x.nbytes for x in given)
        else:
            self.unknown.add(name)
