"""Hyena: a subquadratic drop-in replacement for attention, and language models built from it."""

from hyena.loading import quiet_interruption

with quiet_interruption():
    from hyena.filters import HyenaFilter
    from hyena.mixers import CausalSelfAttention, HyenaOperator, replace_attention
    from hyena.model import FilterConfig, LanguageModel, ModelConfig, load, preset

__version__ = "0.1.0"

__all__ = [
    "CausalSelfAttention",
    "FilterConfig",
    "HyenaFilter",
    "HyenaOperator",
    "LanguageModel",
    "ModelConfig",
    "load",
    "preset",
    "replace_attention",
]
