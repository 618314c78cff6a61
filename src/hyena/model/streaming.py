"""Blocks in the memory of the residual stream, where no gradient is recorded.

Norms, MLP and projections are of each position alone: they run over a slice of positions at a time
and add to the stream in place, so that what they make of a long input never exists whole.

Sizes: B batch, L length, D width.
"""

from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from hyena.arguments import check_whole
from hyena.filters.parts import slices
from hyena.filters.plain import is_plain
from hyena.mixers.hyena import cut, groups
from hyena.mixers.hyena.groups import Buffers, Input
from hyena.mixers.mixer import Room
from hyena.mixers.projections import channels_last
from hyena.mixers.state import MixerState
from hyena.model.block import Block
from hyena.model.mlp import hidden_arrays, is_by_position
from hyena.model.norm import is_known, normalize
from hyena.model.piece import Piece
from hyena.ops import Segments
from hyena.ops.observed import observer

WORKING_MEMORY = 1 << 26
"""Bytes of hidden values beyond which a block takes its input in pieces, and which what an operator
makes of some channels may take then. Chosen on CPUs, as all sizes of pieces: on an accelerator
larger ones may be quicker, and whoever asks sets them."""

SLICE_BYTES = 1 << 24
"""Of what a slice of positions makes, or less if `working_memory` is less. Larger ones leave the
processor's caches, smaller ones are narrow matrix products."""

LEAST_SLICE_BYTES = 1 << 22
"""However little memory there is: some 170 positions of a width of 768. Fewer would be mostly
overhead."""


def check_working_memory(value: int) -> int:
    """Raises ValueError unless it is a whole number of bytes from 0 on."""
    return check_whole("working_memory", value, 0, None)


class Stream:
    """A residual stream on its way through the blocks, one after the other.

    Args:
        memory: the model's `working_memory`.
        owned: whether nobody else sees the memory of the first input, so that it may be written to.
        buffers: of pieces; others than these are given back with the stream.
    """

    def __init__(self, memory: int, *, owned: bool, buffers: Buffers | None = None) -> None:
        self._memory, self._owned = memory, owned
        self._buffers = Buffers() if buffers is None else buffers

    def clear(self) -> None:
        """Gives the memory of the buffers back; for after the last block."""
        self._buffers.clear()

    def forward(
        self,
        block: nn.Module,
        x: Tensor,
        mask: Tensor | None,
        segments: Segments | None,
        piece: Piece | None = None,
    ) -> Tensor:
        """``block(x, mask, segments)``, or of a piece ``block(x, mask, None, piece)``."""
        if takes(block, x, self._memory, piece):
            return self._through(block, x, mask, segments, None, piece)[0]
        self._owned = is_plain(block, Block)
        y: Tensor = block(x, *arguments(mask, segments, piece))
        return y

    def prefill(
        self, block: Block, x: Tensor, mask: Tensor | None, room: Room
    ) -> tuple[Tensor, MixerState]:
        """``block.prefill``."""
        if takes(block, x, self._memory):
            return self._through(block, x, mask, None, room)
        self._owned = is_plain(block, Block)
        return block.prefill(x, mask, *room)

    def _through(
        self,
        block: Block,
        x: Tensor,
        mask: Tensor | None,
        segments: Segments | None,
        room: Room | None,
        piece: Piece | None = None,
    ) -> tuple[Tensor, Any]:
        # Side by side in memory, as slices of positions need it.
        x = x.contiguous() if self._owned else x.clone(memory_format=torch.contiguous_format)
        self._owned = True
        state = _add_mixed(block, x, mask, segments, room, piece, self._memory, self._buffers)
        _add_mlp(block, x, self._memory)
        return x, state


def arguments(mask: Tensor | None, segments: Segments | None, piece: Piece | None) -> list[Any]:
    """What a block is given beside its input."""
    return [mask, segments] if piece is None else [mask, None, piece]


def takes(block: nn.Module, x: Tensor, memory: int, piece: Piece | None = None) -> TypeGuard[Block]:
    """Whether the block is to run in the memory of x: it is long enough, and nobody looks on."""
    return (
        observer((x,)) == "nobody"
        and may_go_in_pieces(block, x, memory, piece)
        and observer(block.parameters() if torch.is_grad_enabled() else ()) == "nobody"
        and not (block.training and block.dropout > 0)
    )


def may_go_in_pieces(
    block: nn.Module, x: Tensor, memory: int, piece: Piece | None
) -> TypeGuard[Block]:
    """Whether the block is what its class says, and x (B, L, D) too long to take whole, or the
    longest piece of its rows. Asked after the `observer` of x: a program that is recorded has no
    sizes to compare."""
    return (
        isinstance(block, Block)
        and x.shape[0] * length_of(x, piece) * bytes_of_position(block, x.shape[2], x.dtype)
        > memory
        and is_plain(block, Block)
        and is_known(block.norm1)  # a hook might keep x, which is to change
        and is_known(block.norm2)
    )


def length_of(x: Tensor, piece: Piece | None) -> int:
    """The positions by which the way of x (B, L, D) is chosen: its own, or those of the longest
    piece, as all processes go the same way."""
    return x.shape[1] if piece is None else piece.longest


def bytes_of_position(block: Block, width: int, dtype: torch.dtype) -> int:
    """What a block makes of a position beside the stream, which has this width and dtype: arrays of
    hidden values, 4·D numbers each of an MLP of another kind, or what a mixer projects."""
    hidden: int = getattr(getattr(block.mlp, "up", None), "out_features", 4 * width)
    return max(hidden_arrays(block.mlp) * hidden, 4 * width) * dtype.itemsize


def _add_mixed(
    block: Block,
    x: Tensor,
    mask: Tensor | None,
    segments: Segments | None,
    room: Room | None,
    piece: Piece | None,
    memory: int,
    buffers: Buffers,
) -> Any:
    """x += mixer(norm1(x)), of a Hyena operator by groups of channels; and the state of a
    prefill."""
    op, state, u = block.mixer, None, input_of(block, x, memory)
    if groups.takes(op, length_of(x, piece), mask, segments, room):
        between = None if piece is None else piece.between(op, mask)
        if between is None:
            y, _, state = groups.between_projections(op, u, mask, segments, room, memory, buffers)
        else:
            y, _, _ = cut.between_projections(op, u, between, memory, buffers)
        for rows, positions in u.pieces:
            x[rows, positions] += channels_last(op.out_proj, y[rows, :, positions])
    elif piece is not None:
        x += piece.mix(op, normalize(block.norm1, x, op), mask, None)[0]
    elif room is None:
        x += op(normalize(block.norm1, x, op), mask=mask, document_ids=segments)
    else:
        mixed, state = op.prefill(normalize(block.norm1, x, op), mask=mask, **room._asdict())
        x += mixed
    return state


def input_of(block: Block, x: Tensor, memory: int, *, gradients: bool = False) -> Input:
    """What the block's mixer is given, piece by piece; pieces are smaller for ``gradients``, of
    which norm and MLP make as many numbers again."""

    def read(rows: slice, positions: slice) -> Tensor:
        return normalize(block.norm1, x[rows, positions], block.mixer)

    B, L, D = x.shape
    each = bytes_of_position(block, D, x.dtype) * (2 if gradients else 1)
    return Input(B, L, pieces_of(B, L, each, memory), read)


def pieces_of(batch: int, length: int, bytes_each: int, memory: int) -> list[tuple[slice, slice]]:
    """Rows and positions that are taken at once, of which each position makes so many bytes:
    several rows, or a part of one."""
    most = min(SLICE_BYTES, max(memory, LEAST_SLICE_BYTES))
    if length * bytes_each <= most:
        rows = slices(batch, length * bytes_each, most)
        return [(some, slice(0, length)) for some in rows]
    parts = slices(length, bytes_each, most)
    return [(slice(b, b + 1), part) for b in range(batch) for part in parts]


def _add_mlp(block: Block, x: Tensor, memory: int) -> None:
    """x += mlp(norm2(x)), by pieces unless the MLP does more than its formula."""
    B, L, D = x.shape
    pieces = [(slice(0, B), slice(0, L))]
    if is_by_position(block.mlp):
        pieces = pieces_of(B, L, bytes_of_position(block, D, x.dtype), memory)
    for rows, positions in pieces:
        part = x[rows, positions]
        part += block.mlp(normalize(block.norm2, part, block.mlp))
