"""Models over several processes, on PyTorch's own engine, applied from outside the model."""

from hyena.distributed.context import ContextParallel
from hyena.distributed.sharded import shard

__all__ = ["ContextParallel", "shard"]
