"""Layers that mix along the sequence: the Hyena operator, attention, and their rivals."""

from hyena.mixers.attention import AttentionState, CausalSelfAttention
from hyena.mixers.hyena import HyenaMatrix, HyenaOperator, HyenaState, hyena_matrix
from hyena.mixers.mixer import SPECS, Mixer, Spec, mixer
from hyena.mixers.replacing import (
    MultiheadAttentionAdapter,
    TimmAttentionAdapter,
    TransformersAttentionAdapter,
    replace_attention,
)
from hyena.mixers.rivals.aft_conv import AFTConv, AFTConvState
from hyena.mixers.rivals.gss import GSS, GSSState
from hyena.mixers.rivals.h3 import H3, H3State
from hyena.mixers.rivals.linear_attention import LinearAttention, LinearAttentionState
from hyena.mixers.rivals.mamba2 import Mamba2, Mamba2State
from hyena.mixers.rivals.rwkv import RWKV, RWKVState
from hyena.mixers.rivals.s4d import S4D, S4DState
from hyena.mixers.state import MixerState

__all__ = [
    "GSS",
    "H3",
    "RWKV",
    "S4D",
    "SPECS",
    "AFTConv",
    "AFTConvState",
    "AttentionState",
    "CausalSelfAttention",
    "GSSState",
    "H3State",
    "HyenaMatrix",
    "HyenaOperator",
    "HyenaState",
    "LinearAttention",
    "LinearAttentionState",
    "Mamba2",
    "Mamba2State",
    "Mixer",
    "MixerState",
    "MultiheadAttentionAdapter",
    "RWKVState",
    "S4DState",
    "Spec",
    "TimmAttentionAdapter",
    "TransformersAttentionAdapter",
    "hyena_matrix",
    "mixer",
    "replace_attention",
]
