"""Hyena in place of the attention of a given model."""

from hyena.mixers.replacing.multihead import MultiheadAttentionAdapter
from hyena.mixers.replacing.replace import replace_attention

__all__ = ["MultiheadAttentionAdapter", "replace_attention"]
