"""Models over several processes, on PyTorch's own engine, applied from outside the model."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hyena.distributed.context import ContextParallel
    from hyena.distributed.saving import save
    from hyena.distributed.sharded import shard
    from hyena.distributed.tensor import tensor_parallel

__all__ = ["ContextParallel", "save", "shard", "tensor_parallel"]

if not TYPE_CHECKING:  # or a type checker would take any name for an attribute
    _PLACES = {
        "ContextParallel": "context",
        "save": "saving",
        "shard": "sharded",
        "tensor_parallel": "tensor",
    }

    def __getattr__(name: str) -> Any:
        """A public name, imported when it is first asked for: PyTorch's engine takes as long to
        import as all else, and `hyena.training` needs it for runs of several processes alone."""
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = import_module(f"{__name__}.{_PLACES[name]}")
        return globals().setdefault(name, getattr(module, name))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
