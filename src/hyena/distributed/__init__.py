"""Models over several processes, on PyTorch's own engine, applied from outside the model."""

from hyena.distributed.context import ContextParallel
from hyena.distributed.saving import save
from hyena.distributed.sharded import shard
from hyena.distributed.tensor import tensor_parallel

__all__ = ["ContextParallel", "save", "shard", "tensor_parallel"]
