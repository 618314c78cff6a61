"""Models over several processes, on PyTorch's own engine, applied from outside the model."""

from hyena.distributed.context import ContextParallel

__all__ = ["ContextParallel"]
