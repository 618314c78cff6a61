"""Causal softmax attention with rotary positions: what Hyena replaces, with the same interface.

Sizes: B batch, L length, D width, H heads of queries, G heads of keys and values, E head_dim.
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
from hyena.mixers.checks import check_dropout, check_heads, check_kv_heads, check_no_gradient
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
        "kv_heads": "kv_heads",
        "rotary": ("positions", "rotary"),
        "rotary_base": "rotary_base",
        "rotary_scale": "rotary_scale",
        "bias": "in_proj_bias",
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
        kv_heads: G, which divides the D/E heads of queries: each head of keys and values is read
            by as many neighbouring heads of queries (Ainslie et al. 2023, arXiv:2305.13245). The
            default is a head of keys for each of queries.
        rotary: turn queries and keys by their positions; without, the layer knows no more of
            positions than what came before what.
        rotary_base: of the rotary frequencies.
        rotary_scale: by which positions are divided (Chen et al. 2023, arXiv:2306.15595).
        bias: of queries, keys and values; the output has one in any case.
        dropout: probability, on the attention weights.
        device, dtype: of the parameters.

    Raises: ValueError if the sizes do not divide, on a dropout that is no probability below 1, and
        on a base or scale that is not above 0.
    """

    takes_gaps = True

    def __init__(
        self,
        width: int,
        *,
        head_dim: int | None = None,
        kv_heads: int | None = None,
        rotary: bool = True,
        rotary_base: float = 10000.0,
        rotary_scale: float = 1.0,
        bias: bool = True,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        width, head_dim = check_heads("CausalSelfAttention", width, head_dim, even=True)
        heads = width // head_dim
        kv_heads = check_kv_heads("CausalSelfAttention", heads, kv_heads)
        dropout = check_dropout("CausalSelfAttention", dropout)
        rotary_base, rotary_scale = check_numbers(
            "CausalSelfAttention", rotary_base=rotary_base, rotary_scale=rotary_scale
        )
        for name, value in (("rotary_base", rotary_base), ("rotary_scale", rotary_scale)):
            if value <= 0:
                raise ValueError(f"CausalSelfAttention: expected {name} above 0, got {value}")
        self.width, self.head_dim, self.heads, self.kv_heads = width, head_dim, heads, kv_heads
        self.rotary, self.rotary_base, self.rotary_scale = rotary, rotary_base, rotary_scale
        self.dropout = dropout
        place = placement("CausalSelfAttention", device, dtype)
        self.in_proj = nn.Linear(width, width + 2 * kv_heads * head_dim, bias=bias, **place)
        self.out_proj = nn.Linear(width, width, **place)

    def _mix(
        self, u: Tensor, mask: Tensor | None, segments: Segments | None, room: Room | None
    ) -> tuple[Tensor, AttentionState | None]:
        if room is not None and room.state is not None:
            return self._go_on(u, room)
        q, k, v = self.heads_of(u)
        dropout, each = self.dropout if self.training else 0.0, self.heads // self.kv_heads
        y = _attend(q, k, v, mask, segments, dropout, each)
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
        q, k, v = self.heads_of(u, state.length, state)
        state.extend(k, v, room.future)
        dropout = self.dropout if self.training else 0.0
        each = self.heads // self.kv_heads
        y = attend_back(q.to(state.dtype), state.k, state.v, state.mask, dropout, each)
        return self.out_proj(y.to(q.dtype).transpose(1, 2).flatten(2)), state

    def _step(self, u: Tensor, state: AttentionState) -> tuple[Tensor, AttentionState]:
        check_no_gradient("CausalSelfAttention.step", self, u)
        B, H, G = state.batch, self.heads, self.kv_heads
        z = apply_linear(self.in_proj, u)
        state.make_room(1)
        z = z.view(B, H + 2 * G, self.head_dim)
        qk, v = z[:, : H + G], z[:, H + G :]
        if self.rotary:
            if state.turns is None:
                state.turns = turns(state.capacity, self.rotary_base, qk, self.rotary_scale)
            qk = state.turns.turn(qk, state.positions(state.length))
        q, k = qk.split([H, G], dim=1)
        k, v, mask = state.append(k, v)
        # The queries that read one head of keys stand as positions of it: all look back at all.
        y = F.scaled_dot_product_attention(
            q.view(B, G, H // G, self.head_dim).to(k.dtype),
            k,
            v,
            attn_mask=None if mask is None else mask[:, None, None, :],
        )
        return apply_linear(self.out_proj, y.flatten(1).to(z.dtype)), state

    def _state_size(self, length: int, future: int | None) -> int:
        return 2 * self.kv_heads * self.head_dim * (length + (future or 0))

    def _flops(self, length: int, batch: int) -> LayerFlops:
        """All L·L pairs; the projections in full, not as six times the parameters."""
        D, positions, pairs = self.width, batch * length, batch * length * length
        keys = self.kv_heads * self.head_dim
        products = 2 * D * pairs  # of queries and keys; of scores and values
        softmax = 3 * self.heads * pairs  # exponential, sum, division
        future = (length - 1) / (2 * length)  # share of the pairs above the diagonal
        parts = {
            "projections": 2 * D * (D + 2 * keys) * positions,
            # two products and a sum for each number of a query or key
            "rotation": 3 * (D + keys) * positions if self.rotary else 0,
            "scores": products,
            "softmax": softmax,
            "values": products,
            "output": 2 * D * D * positions,
        }
        return LayerFlops(parts, future * (2 * products + softmax))

    def cut_to(self, parts: int) -> None:
        """Takes note that its parameters are now those of one of so many equal parts of the
        heads."""
        self.heads, self.kv_heads = self.heads // parts, self.kv_heads // parts

    def extra_repr(self) -> str:
        grouped = f", kv_heads={self.kv_heads}" if self.kv_heads < self.heads else ""
        return f"width={self.width}, heads={self.heads}{grouped}"

    def _is_own(self, state: AttentionState) -> bool:
        return state.sizes == (self.kv_heads, self.head_dim)

    def heads_of(
        self, u: Tensor, before: int = 0, state: AttentionState | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, H, L, E) and keys, rotated if they are to be, and values, (B, G, L, E) each,
        of the tokens after so many, be they those of a state."""
        H, G, E = self.heads, self.kv_heads, self.head_dim
        q, k, v = self.in_proj(u).split([H * E, G * E, G * E], dim=-1)
        q = q.unflatten(-1, (H, E)).transpose(1, 2)
        k, v = (x.unflatten(-1, (G, E)).transpose(1, 2) for x in (k, v))
        if not self.rotary:
            return q, k, v
        if state is not None and state.starts is not None:
            L = u.shape[1]
            at = state.positions(torch.arange(before, before + L, device=u.device))
            table = Turns(before + L, self.rotary_base, q, scale=self.rotary_scale)
            return table.turn(q, at).to(q.dtype), table.turn(k, at).to(k.dtype), v
        table = Turns(u.shape[1], self.rotary_base, q, before, self.rotary_scale)
        return table.turn(q).to(q.dtype), table.turn(k).to(k.dtype), v


def _attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    segments: Segments | None,
    dropout: float,
    each: int,
) -> Tensor:
    """Real tokens look back at those of their own document: (B, H, L, E).

    Args: each: H/G, how many heads of queries read one head of keys.
    """
    attend = partial(_attention, each=each, dropout_p=dropout)
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


def _attention(q: Tensor, k: Tensor, v: Tensor, *, each: int, **options: Any) -> Tensor:
    """Softmax attention; in forward mode by matrix products, which alone have its rule."""
    # Not by enable_gqa, which takes L² numbers where no fused kernel has it: on CUDA in float32.
    k, v = (_repeated(x, each) for x in (k, v))
    if not forward_mode():
        return F.scaled_dot_product_attention(q, k, v, **options)
    with sdpa_kernel(SDPBackend.MATH):
        return F.scaled_dot_product_attention(q, k, v, **options)


def _repeated(x: Tensor, each: int) -> Tensor:
    """Keys or values (B, G, L, E), each head so many times: (B, H, L, E)."""
    return x if each == 1 else x[:, :, None].expand(-1, -1, each, -1, -1).flatten(1, 2)


def attend_back(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    dropout: float,
    each: int,
    segments: Segments | None = None,
) -> Tensor:
    """The last L of t tokens look back at all: q (B, H, L, E), keys and values (B, G, t, E), their
    mask (B, t) or None and their documents → (B, H, L, E). Padding looks at itself.

    Some queries at a time, since each call has a mask. In it those that read one head of keys stand
    as positions of one head, so that no key is repeated.
    """
    L, t = q.shape[2], k.shape[2]
    rows = max(1, _PAIRS // (each * t * (1 if mask is None and segments is None else q.shape[0])))
    key = torch.arange(t, device=q.device)
    y = []
    for start in range(0, L, rows):
        stop = min(start + rows, L)
        first, seen = t - L + start, t - L + stop  # keys up to the last of these queries
        query = key[first:seen, None]
        allowed = key[:seen] <= query
        if segments is not None:
            ids = segments.ids[:, None, None, :seen]
            allowed = allowed & (ids[..., first:, None] == ids[..., None, :])[:, :, 0]
        if mask is not None:
            allowed = (allowed & mask[:, None, None, :seen]) | (key[:seen] == query)
        if each > 1:
            allowed = torch.cat([allowed] * each, dim=-2)
        some = q[:, :, start:stop].unflatten(1, (-1, each)).flatten(2, 3)
        attend = partial(F.scaled_dot_product_attention, attn_mask=allowed, dropout_p=dropout)
        found = attend(some, k[:, :, :seen], v[:, :, :seen])
        y.append(found.unflatten(2, (each, stop - start)).flatten(1, 2))
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
