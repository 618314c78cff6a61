"""The mixers that can be cut, on a piece of each row: what they are on the whole rows.

Sizes: B batch, L length of the whole rows, p positions of a piece, D width, N order, G channels
that go at once; H heads of queries, G of keys and values, E numbers of a head.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from hyena.distributed.exchange import positions, whole
from hyena.distributed.halo import with_halo
from hyena.distributed.long_conv import Convolve, OfPrompt, convolutions
from hyena.distributed.rows import Rows
from hyena.mixers import AttentionState, CausalSelfAttention, HyenaOperator, HyenaState, Mixer
from hyena.mixers.attention.attention import attend_back
from hyena.mixers.mixer import Room, zero_at_padding
from hyena.mixers.projections import channels_first, channels_last
from hyena.ops import Segments, short_conv


def check(name: str, mixer: Any, processes: int) -> None:
    """Raises ValueError unless rows can be cut along the mixer of this name, over so many
    processes."""
    both_ways = isinstance(mixer, HyenaOperator) and mixer.bidirectional
    if both_ways or not isinstance(mixer, HyenaOperator | CausalSelfAttention):
        kind = type(mixer).__name__ + (" with bidirectional=True" if both_ways else "")
        raise ValueError(
            f"ContextParallel: {name} is a {kind}, along which rows cannot be cut; it takes causal "
            "HyenaOperator and CausalSelfAttention"
        )
    if isinstance(mixer, HyenaOperator) and processes > mixer.filter.channels:
        raise ValueError(
            f"ContextParallel: {processes} processes for the {mixer.filter.channels} channels of "
            f"{name}; "
            "each takes one channel or more, so cut the rows over fewer processes"
        )


def mix(
    mixer: Mixer, u: Tensor, mask: Tensor | None, rows: Rows, room: Room | None
) -> tuple[Tensor, HyenaState | AttentionState | None]:
    """`hyena.mixers.Mixer.forward` of a mixer that can be cut, and with ``room`` its prefill.

    Args: u and mask (B, p, …) of the piece that is here.
    """
    if isinstance(mixer, HyenaOperator):
        return _hyena(mixer, u, mask, rows, room)
    assert isinstance(mixer, CausalSelfAttention)
    return _attention(mixer, u, rows, room)


class Between:
    """What lies between the projections of an operator, see `hyena.mixers.hyena.cut.Cut`.

    Args: the operator; mask (B, p) of the piece that is here; the rows.
    """

    def __init__(self, op: HyenaOperator, mask: Tensor | None, rows: Rows) -> None:
        op.check_span(rows.length, rows.mask, rows.segments)
        self._op, self._mask, self._rows = op, mask, rows
        self._convolutions = convolutions(op, rows)

    @property
    def longest(self) -> int:
        return max(self._rows.lengths)

    @property
    def processes(self) -> int:
        return self._rows.processes

    @property
    def shared(self) -> tuple[Tensor, ...]:
        return self._convolutions.shared

    def between(
        self,
        z: Tensor,
        short: tuple[Tensor, Tensor | None],
        channels: slice,
        shared: Sequence[Tensor] | None = None,
    ) -> Tensor:
        op, convolve = self._op, self._convolutions.of(channels, shared)

        def of_piece(x: Tensor, segments: Segments | None) -> Tensor:
            return short_conv(x, *short, segments=segments, backend=op.backend)

        return _recurrence(op, z, of_piece, convolve, self._mask, self._rows)


def _hyena(
    op: HyenaOperator, u: Tensor, mask: Tensor | None, rows: Rows, room: Room | None
) -> tuple[Tensor, HyenaState | None]:
    op.check_span(rows.length, rows.mask, rows.segments)
    left = None if room is None else OfPrompt(op, rows, room)
    convolve = convolutions(op, rows).of(slice(None), None) if left is None else left
    z = channels_first(op.in_proj, u)
    y = channels_last(op.out_proj, _recurrence(op, z, op.short_conv, convolve, mask, rows))
    if left is None:
        return y, None
    z = zero_at_padding(z.detach(), mask, 1)
    last = (max(rows.length - op.short_width + 1, 0), rows.length)
    return y, left.state(positions(z, rows, [last] * rows.processes))


def _recurrence(
    op: HyenaOperator,
    z: Tensor,
    short: Callable[[Tensor, Segments | None], Tensor],
    convolve: Convolve,
    mask: Tensor | None,
    rows: Rows,
) -> Tensor:
    """Definition 3.1: x⁰, …, x^{N−1} and v, (B, G, p) each; then v ← h * (xⁿ · v) from the last.

    Args: z (B, (N+1)·G, p), what the input projection gives of G channels; their short and their
        long convolutions.
    Returns: what the output projection is given, (B, G, p).
    """
    z = zero_at_padding(z, mask, 1)
    behind, before, segments = with_halo(z, rows, op.short_width - 1)
    x = short(behind, segments)[..., before:]
    *gates, v = x.unflatten(1, (op.order + 1, -1)).unbind(1)
    for i, gate in enumerate(reversed(gates[1:])):
        v = convolve(i, op.gated(v, gate, mask))
    return v * gates[0]


def _attention(
    op: CausalSelfAttention, u: Tensor, rows: Rows, room: Room | None
) -> tuple[Tensor, AttentionState | None]:
    """The queries that are here look back at the keys of all pieces up to this one."""
    q, k, v = op.heads_of(u, rows.start)
    G, E = op.kv_heads, op.head_dim
    own = torch.cat([k, v], dim=1).transpose(2, 3).flatten(1, 2)  # (B, 2·G·E, p)
    past = positions(own, rows, [(0, start) for start, _ in rows.spans])
    seen = torch.cat([past, own], dim=-1).unflatten(1, (2 * G, E)).transpose(2, 3)
    k, v = seen.split(G, dim=1)
    mask = None if rows.mask is None else rows.mask[:, : rows.stop]
    dropout, each = op.dropout if op.training else 0.0, op.heads // G
    y = attend_back(q, k, v, mask, dropout, each, rows.segments_of(0, rows.stop))
    y = op.out_proj(y.transpose(1, 2).flatten(2))
    if room is None:
        return y, None
    k, v = whole(own.detach(), rows).unflatten(1, (2 * G, E)).transpose(2, 3).split(G, dim=1)
    state = AttentionState(k, v, rows.mask)
    state.reserve(rows.length + (room.future or 0))  # in memory of its own
    return y, state
