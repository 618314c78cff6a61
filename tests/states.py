"""What tests ask of states of generation."""

from typing import Any

from hyena.mixers import AttentionState, HyenaState
from hyena.ops.stepping.finite import FiniteState
from hyena.ops.stepping.online import OnlineState


def numbers_held(state: Any) -> int:
    """How many numbers the state of a mixer has memory for, masks aside."""
    if isinstance(state, AttentionState):
        return state._k.numel() + state._v.numel()
    if isinstance(state, HyenaState) and isinstance(state.long, FiniteState):
        return state.short.numel() + state.long._rows.numel()
    count = sum(x.numel() for x in state.tensors().values())
    if isinstance(state, HyenaState) and isinstance(state.long, OnlineState):
        count += state.long._recent.numel() + state.long._due.numel()
    return count
