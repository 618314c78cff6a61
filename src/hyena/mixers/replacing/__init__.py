"""Hyena in place of the attention of a given model."""

from hyena.mixers.replacing.hugging_face import TransformersAttentionAdapter
from hyena.mixers.replacing.multihead import MultiheadAttentionAdapter
from hyena.mixers.replacing.replace import replace_attention
from hyena.mixers.replacing.timm import TimmAttentionAdapter

__all__ = [
    "MultiheadAttentionAdapter",
    "TimmAttentionAdapter",
    "TransformersAttentionAdapter",
    "replace_attention",
]
