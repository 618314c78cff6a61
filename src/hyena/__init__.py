"""Hyena: a subquadratic drop-in replacement for attention, and language models built from it."""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hyena.filters import HyenaFilter
    from hyena.finetuning import predict
    from hyena.interop import load
    from hyena.mixers import CausalSelfAttention, HyenaOperator, replace_attention
    from hyena.model import FilterConfig, LanguageModel, ModelConfig, preset
    from hyena.scoring import embed, score, score_variants

__version__ = "0.1.0"

__all__ = [
    "CausalSelfAttention",
    "FilterConfig",
    "HyenaFilter",
    "HyenaOperator",
    "LanguageModel",
    "ModelConfig",
    "embed",
    "load",
    "predict",
    "preset",
    "replace_attention",
    "score",
    "score_variants",
]

_PARTS = ("ops", "filters", "mixers", "interop", "model", "scoring", "finetuning")

if not TYPE_CHECKING:  # or a type checker would take any name for an attribute of hyena

    def __getattr__(name: str) -> Any:
        """A public name, or one of the parts, imported when it is first asked for.

        The version and the help of the command line so need no PyTorch.
        """
        if name in _PARTS:
            return import_module(f"hyena.{name}")
        for part in _PARTS if name in __all__ else ():
            module = import_module(f"hyena.{part}")
            if name in module.__all__:
                return globals().setdefault(name, getattr(module, name))
        raise AttributeError(f"module 'hyena' has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names, the submodules and the dunders."""
    mine = [name for name, value in globals().items() if isinstance(value, ModuleType)]
    return sorted({*__all__, *_PARTS, *mine, *(n for n in globals() if n.startswith("__"))})
