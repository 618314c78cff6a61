"""Causal softmax attention, with its keys and values kept for generation."""

from hyena.mixers.attention.attention import CausalSelfAttention
from hyena.mixers.attention.state import AttentionState

__all__ = ["AttentionState", "CausalSelfAttention"]
