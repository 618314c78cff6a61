"""Causal softmax attention with rotary positions: what Hyena replaces, with the same interface.

Sizes: B batch, L length, D width, H heads, E head_dim.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from hyena.mixers.attention.packing import packing_of
from hyena.mixers.attention.rotary import Turns, turns
from hyena.mixers.attention.state import AttentionState
from hyena.mixers.checks import check_dropout, check_heads, check_no_gradient
from hyena.mixers.flops import LayerFlops
from hyena.mixers.mixer import Mixer, Room, mixer
from hyena.mixers.projections import apply_linear
from hyena.ops import Segments
from hyena.ops.arguments import check_numbers, placement
from hyena.ops.observed import forward_mode, observer

_PAIRS = 1 << 22  # entries of a mask for some of the queries


@mixer(
    "attention",
    state=AttentionState,
    options={
        "head_dim": "head_dim",
        "rotary": ("positions", "rotary"),
        "dropout": "dropout",
    },
)
class CausalSelfAttention(Mixer):
    """Multi-head causal self-attention on (B, L, D), in O(D·L·(D + L)).

    Scaled dot products (Vaswani et al. 2017, arXiv:1706.03762) of queries and keys rotated by
    their positions (Su et al. 2021, arXiv:2104.09864), through PyTorch's
    ``scaled_dot_product_attention``. A prefill makes room for its ``future`` tokens; without, or
    beyond them, room is made by doubling. A step advances the state in place and records no
    gradient, in O(D·(D + L)); so does a prefill from a state.

    Padding and packed documents take memory in proportion to L: documents of like length are
    attended as a batch of rows. Where their lengths cannot be read, a mask of B·L·L entries tells
    them apart: in a compiled, exported or traced program, under a transform of torch.func or a
    dispatch mode, and on meta.

    Args:
        width: D, a multiple of ``head_dim``.
        head_dim: E, even. The default is 64, or ``width`` if that is smaller.
        rotary: turn queries and keys by their positions; without, the layer knows no more of
            positions than what came before what.
        rotary_base: of the rotary frequencies.
        dropout: probability, on the attention weights.
        device, dtype: of the parameters.

    Raises: ValueError if the sizes do not divide, or on a dropout that is no probability below 1.
    """

    _takes_gaps = True

    def __init__(
        self,
        width: int,
        *,
        head_dim: int | None = None,
        rotary: bool = True,
        rotary_base: float = 10000.0,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        width, head_dim = check_heads("CausalSelfAttention", width, head_dim, even=True)
        dropout = check_dropout("CausalSelfAttention", dropout)
        (rotary_base,) = check_numbers("CausalSelfAttention", rotary_base=rotary_base)
        if rotary_base <= 0:
            raise ValueError(
                f"CausalSelfAttention: expected rotary_base above 0, got {rotary_base}"
            )
        self.width, self.head_dim, self.heads = width, head_dim, width // head_dim
        self.rotary, self.rotary_base, self.dropout = rotary, rotary_base, dropout
        place = placement("CausalSelfAttention", device, dtype)
        self.in_proj = nn.Linear(width, 3 * width, **place)
        self.out_proj = nn.Linear(width, width, **place)

    def _mix(
        self, u: Tensor, mask: Tensor | None, segments: Segments | None, room: Room | None
    ) -> tuple[Tensor, AttentionState | None]:
        if room is not None and room.state is not None:
            return self._go_on(u, room)
        q, k, v = self._heads(u)
        y = _attend(q, k, v, mask, segments, self.dropout if self.training else 0.0)
        y = self.out_proj(y.transpose(1, 2).flatten(2))
        if room is None:
            return y, None
        state = AttentionState(k.detach(), v.detach(), mask)
        state.reserve(state.length + (room.future or 0))  # out of z, which it would keep alive
        return y, state

    def _go_on(self, u: Tensor, room: Room) -> tuple[Tensor, AttentionState]:
        """The tokens after those of a state."""
        check_no_gradient("CausalSelfAttention.prefill", self, u)
        state: AttentionState = room.state
        q, k, v = self._heads(u, state.length)
        state.extend(k, v, room.future)
        dropout = self.dropout if self.training else 0.0
        y = _attend_back(q.to(state.dtype), state.k, state.v, state.mask, dropout)
        return self.out_proj(y.to(q.dtype).transpose(1, 2).flatten(2)), state

    def _step(self, u: Tensor, state: AttentionState) -> tuple[Tensor, AttentionState]:
        check_no_gradient("CausalSelfAttention.step", self, u)
        B = state.batch
        z = apply_linear(self.in_proj, u)
        state.make_room(1)
        z = z.view(B, 3, self.heads, self.head_dim)
        qk, v = z[:, :2], z[:, 2]
        if self.rotary:
            if state.turns is None:
                state.turns = turns(state.capacity, self.rotary_base, qk)
            qk = state.turns.turn(qk, state.length)
        q, k = qk.unbind(1)
        k, v, mask = state.append(k, v)
        y = F.scaled_dot_product_attention(
            q[:, :, None].to(k.dtype),
            k,
            v,
            attn_mask=None if mask is None else mask[:, None, None, :],
        )
        return apply_linear(self.out_proj, y.flatten(1).to(z.dtype)), state

    def _state_size(self, length: int, future: int | None) -> int:
        return 2 * self.width * (length + (future or 0))

    def _flops(self, length: int, batch: int) -> LayerFlops:
        """All L·L pairs; the projections in full, not as six times the parameters."""
        D, positions, pairs = self.width, batch * length, batch * length * length
        products = 2 * D * pairs  # of queries and keys; of scores and values
        softmax = 3 * self.heads * pairs  # exponential, sum, division
        future = (length - 1) / (2 * length)  # share of the pairs above the diagonal
        parts = {
            "projections": 2 * 3 * D * D * positions,
            # two products and a sum for each number of a query or key
            "rotation": 3 * 2 * D * positions if self.rotary else 0,
            "scores": products,
            "softmax": softmax,
            "values": products,
            "output": 2 * D * D * positions,
        }
        return LayerFlops(parts, future * (2 * products + softmax))

    def extra_repr(self) -> str:
        return f"width={self.width}, heads={self.heads}"

    def _is_own(self, state: AttentionState) -> bool:
        return state.sizes == (self.heads, self.head_dim)

    def _heads(self, u: Tensor, before: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """Queries and keys, rotated if they are to be, and values, of the tokens after so many:
        (B, H, L, E) each."""
        q, k, v = (
            x.view(*u.shape[:2], self.heads, self.head_dim).transpose(1, 2)
            for x in self.in_proj(u).chunk(3, dim=-1)
        )
        if not self.rotary:
            return q, k, v
        table = Turns(u.shape[1], self.rotary_base, q, before)
        return table.turn(q).to(q.dtype), table.turn(k).to(k.dtype), v


def _attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    segments: Segments | None,
    dropout: float,
) -> Tensor:
    """Real tokens look back at those of their own document: (B, H, L, E)."""
    attend = partial(_attention, dropout_p=dropout)
    if mask is None and segments is None:
        return attend(q, k, v, is_causal=True)
    if q.is_meta or observer((q, mask)) not in ("nobody", "autograd"):
        # Lengths have no values, or a program that is recorded is to take any.
        return attend(q, k, v, attn_mask=_allowed(mask, segments, q.shape[2], q.device))
    packing = packing_of(mask, segments)
    if packing is None:
        return attend(q, k, v, is_causal=True)
    groups = zip(packing.rows(q), packing.rows(k), packing.rows(v), strict=True)
    return packing.put_back([attend(*rows, is_causal=True) for rows in groups])


def _attention(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    """Softmax attention; in forward mode by matrix products, which alone have its rule."""
    if not forward_mode():
        return F.scaled_dot_product_attention(q, k, v, **options)
    with sdpa_kernel(SDPBackend.MATH):
        return F.scaled_dot_product_attention(q, k, v, **options)


def _attend_back(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    """The last L of t tokens look back at all: q (B, H, L, E), keys and values (B, H, t, E) and
    their mask (B, t) or None → (B, H, L, E). Some queries at a time, since each call has a mask."""
    L, t = q.shape[2], k.shape[2]
    rows = max(1, _PAIRS // (t if mask is None else t * q.shape[0]))
    key = torch.arange(t, device=q.device)
    y = []
    for start in range(0, L, rows):
        stop = min(start + rows, L)
        seen = t - L + stop  # keys up to the last of these queries
        allowed = key[:seen] <= key[t - L + start : seen, None]
        if mask is not None:
            allowed = allowed & mask[:, None, None, :seen]
        attend = partial(F.scaled_dot_product_attention, attn_mask=allowed, dropout_p=dropout)
        y.append(attend(q[:, :, start:stop], k[:, :, :seen], v[:, :, :seen]))
    return torch.cat(y, dim=2)


def _allowed(
    mask: Tensor | None, segments: Segments | None, length: int, device: torch.device
) -> Tensor:
    """(B, 1, L, L) bool: who may look at whom."""
    allowed = torch.ones(length, length, dtype=torch.bool, device=device).tril()[None]
    if segments is not None:
        allowed = allowed & (segments.ids[:, :, None] == segments.ids[:, None, :])
    if mask is not None:
        # Padding looks at itself: a row of the softmax with nothing to look at would be NaN.
        itself = torch.eye(length, dtype=torch.bool, device=device)
        allowed = (allowed & mask[:, None, :]) | itself
    return allowed[:, None]
