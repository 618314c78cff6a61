"""Layers that mix along the sequence: the Hyena operator and the attention that it replaces."""

from hyena.mixers.attention import AttentionState, CausalSelfAttention
from hyena.mixers.hyena import HyenaOperator, HyenaState
from hyena.mixers.multihead import MultiheadAttentionAdapter
from hyena.mixers.replace import replace_attention

__all__ = [
    "AttentionState",
    "CausalSelfAttention",
    "HyenaOperator",
    "HyenaState",
    "MultiheadAttentionAdapter",
    "replace_attention",
]
