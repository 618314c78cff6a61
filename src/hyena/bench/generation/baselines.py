"""Exact generation as it is usually written: all inputs kept, one dot product a channel and token.

Sizes: B batch, D width, C = 3D channels of the short convolution, K its taps, t tokens so far.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from hyena.mixers import HyenaOperator
from hyena.mixers.hyena.short_conv import short_conv_step
from hyena.mixers.projections import apply_linear


class DotState:
    """The inputs of the long convolution so far, in a buffer that a step fills in place.

    Attributes: ``inputs`` (D, B, room); ``before``, the last K − 1 inputs of the short convolution,
    (B, C) each, the latest first; ``length`` t.
    """

    def __init__(self, inputs: Tensor, before: Iterable[Tensor], length: int) -> None:
        self.inputs, self.before, self.length = inputs, deque(before), length

    def rewound(self) -> DotState:
        """A state to start here from again; the buffer is shared."""
        return DotState(self.inputs, self.before, self.length)


class CachedDotProduct(nn.Module):
    """A Hyena operator of order 2 whose step costs O(D·(t + D)), with the weights of ours.

    The taps are kept in reverse, so that a token is one product of two rows for each channel, as a
    batch of matrix products: the quickest of PyTorch's ways to write it.

    Args: ours; room, the most tokens of a sequence.
    """

    def __init__(self, ours: HyenaOperator, room: int) -> None:
        super().__init__()
        if ours.order != 2 or ours.bidirectional:
            raise ValueError(
                "CachedDotProduct: expected a causal HyenaOperator of order 2, got order "
                f"{ours.order}, bidirectional={ours.bidirectional}"
            )
        self.width, self.room = ours.width, room
        self.in_proj, self.out_proj, self.short_conv = ours.in_proj, ours.out_proj, ours.short_conv
        with torch.no_grad():
            taps = ours.filter(room)[0].clone()  # (D, room)
            taps[:, 0] += ours.filter.direct[0]
        self.reversed_taps = taps.flip(1)[:, None].contiguous()  # (D, 1, room)

    def prefill(self, u: Tensor) -> DotState:
        """The state after u (B, L, D), of which the outputs are not asked for."""
        z = self.in_proj(u).transpose(1, 2)  # (B, C, L)
        _, gate, v = self.short_conv(z).split(self.width, dim=1)
        inputs = u.new_zeros(self.width, u.shape[0], self.room)
        inputs[..., : u.shape[1]] = (gate * v).transpose(0, 1)
        keep = self.short_conv.weight.shape[1] - 1
        history = nn.functional.pad(z, (keep, 0))[..., z.shape[-1] :]
        before = [x.contiguous() for x in history.flip(-1).unbind(-1)]
        return DotState(inputs, before, u.shape[1])

    def step(self, u: Tensor, state: DotState) -> tuple[Tensor, DotState]:
        """One more token: u (B, D) → y (B, D) and the state, advanced in place."""
        z = apply_linear(self.in_proj, u)
        short = short_conv_step(self.short_conv, z, state.before)
        gate, inner, v = short.split(self.width, dim=1)
        if state.before:
            state.before.pop()
            state.before.appendleft(z)
        t = state.length = state.length + 1
        state.inputs[..., t - 1] = (inner * v).transpose(0, 1)
        # (D, 1, t) · (D, t, B)
        y = self.reversed_taps[..., self.room - t :] @ state.inputs[..., :t].transpose(1, 2)
        return apply_linear(self.out_proj, gate * y[:, 0].transpose(0, 1)), state
