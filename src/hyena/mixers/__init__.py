"""Layers that mix along the sequence: the Hyena operator, attention, and their rivals."""

from hyena.mixers.aft_conv import AFTConv, AFTConvState
from hyena.mixers.attention import CausalSelfAttention
from hyena.mixers.attention_state import AttentionState
from hyena.mixers.gss import GSS, GSSState
from hyena.mixers.h3 import H3, H3State
from hyena.mixers.hyena import HyenaOperator
from hyena.mixers.hyena_state import HyenaState
from hyena.mixers.linear_attention import LinearAttention, LinearAttentionState
from hyena.mixers.multihead import MultiheadAttentionAdapter
from hyena.mixers.replace import replace_attention
from hyena.mixers.rwkv import RWKV, RWKVState
from hyena.mixers.s4d import S4D, S4DState
from hyena.mixers.state import MixerState

__all__ = [
    "GSS",
    "H3",
    "RWKV",
    "S4D",
    "AFTConv",
    "AFTConvState",
    "AttentionState",
    "CausalSelfAttention",
    "GSSState",
    "H3State",
    "HyenaOperator",
    "HyenaState",
    "LinearAttention",
    "LinearAttentionState",
    "MixerState",
    "MultiheadAttentionAdapter",
    "RWKVState",
    "S4DState",
    "replace_attention",
]
