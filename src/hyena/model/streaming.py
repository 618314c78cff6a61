"""Blocks in the memory of the residual stream, where no gradient is recorded.

Norms, MLP and projections are of each position alone: they run over a slice of positions at a time
and add to the stream in place, so that what they make of a long input never exists whole.

Sizes: B batch, L length, D width.
"""

from collections.abc import Iterator
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from hyena.filters.parts import slices
from hyena.filters.plain import is_plain, matrix_of
from hyena.mixers.hyena import groups
from hyena.mixers.hyena.groups import Buffers, Input
from hyena.mixers.mixer import Room
from hyena.mixers.projections import channels_last
from hyena.mixers.state import MixerState
from hyena.model.block import MLP, Block, normalize
from hyena.ops import Segments
from hyena.ops.arguments import check_size
from hyena.ops.observed import observer

WORKING_MEMORY = 1 << 27
"""Bytes that a block may make beside the stream before it takes an input in pieces. Chosen on CPUs,
as all sizes of pieces: on an accelerator larger ones may be quicker, and whoever asks sets them."""

SLICE_BYTES = 1 << 24
"""Of what a slice of positions makes. Larger ones leave the processor's caches, smaller ones are
narrow matrix products."""


def check_working_memory(value: int) -> int:
    """Raises TypeError or ValueError unless it is a number of bytes."""
    return check_size("LanguageModel", "working_memory", value)


class Stream:
    """A residual stream on its way through the blocks, one after the other.

    Args:
        memory: bytes that a block may take beside it.
        owned: whether nobody else sees the memory of the first input, so that it may be written to.
        buffers: of pieces; others than these are given back with the stream.
    """

    def __init__(self, memory: int, *, owned: bool, buffers: Buffers | None = None) -> None:
        self._memory, self._owned = memory, owned
        self._buffers = Buffers() if buffers is None else buffers

    def forward(
        self, block: nn.Module, x: Tensor, mask: Tensor | None, segments: Segments | None
    ) -> Tensor:
        """``block(x, mask, segments)``."""
        if takes(block, x, self._memory):
            return self._through(block, x, mask, segments, None)[0]
        self._owned = is_plain(block, Block)
        y: Tensor = block(x, mask, segments)
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
    ) -> tuple[Tensor, Any]:
        # Side by side in memory, as slices of positions need it.
        x = x.contiguous() if self._owned else x.clone(memory_format=torch.contiguous_format)
        self._owned = True
        state = _add_mixed(block, x, mask, segments, room, self._memory, self._buffers)
        _add_mlp(block, x, self._memory)
        return x, state


def takes(block: nn.Module, x: Tensor, memory: int) -> TypeGuard[Block]:
    """Whether the block is to run in the memory of x: it is long enough, and nobody looks on."""
    return (
        isinstance(block, Block)
        and observer((x,)) == "nobody"  # first: a program that is recorded has no sizes to compare
        and working_memory(block, x) > memory
        and observer(block.parameters() if torch.is_grad_enabled() else ()) == "nobody"
        and is_plain(block, Block)
        and is_plain(block.norm1, nn.LayerNorm)  # a hook might keep x, which is to change
        and is_plain(block.norm2, nn.LayerNorm)
        and not (block.training and block.dropout > 0)
    )


def working_memory(block: Block, x: Tensor) -> int:
    """Bytes that a block makes of x (B, L, D) beside the stream: hidden values before and after
    their GELU, of an MLP of another kind 4·D, or what a mixer projects."""
    B, L, D = x.shape
    hidden: int = getattr(getattr(block.mlp, "up", None), "out_features", 4 * D)
    return B * L * max(2 * hidden, 4 * D) * x.element_size()


def _add_mixed(
    block: Block,
    x: Tensor,
    mask: Tensor | None,
    segments: Segments | None,
    room: Room | None,
    memory: int,
    buffers: Buffers,
) -> Any:
    """x += mixer(norm1(x)), of a Hyena operator by groups of channels; and the state of a
    prefill."""
    op, state, u = block.mixer, None, input_of(block, x)
    if groups.takes(op, u, mask, segments, room):
        y, state = groups.between_projections(op, u, mask, segments, room, memory, buffers)
        for rows, positions in u.pieces:
            x[rows, positions] += channels_last(op.out_proj, y[rows, :, positions])
    elif room is None:
        x += op(normalize(block.norm1, x, op), mask=mask, document_ids=segments)
    else:
        mixed, state = op.prefill(normalize(block.norm1, x, op), mask=mask, **room._asdict())
        x += mixed
    return state


def input_of(block: Block, x: Tensor) -> Input:
    """What the block's mixer is given, piece by piece."""

    def read(rows: slice, positions: slice) -> Tensor:
        return normalize(block.norm1, x[rows, positions], block.mixer)

    return Input(x.shape[0], x.shape[1], _pieces(x), read)


def _pieces(x: Tensor) -> list[tuple[slice, slice]]:
    """Rows and positions of x that are read at once: several rows, or a part of one."""
    B, L, D = x.shape
    each = 8 * D * x.element_size()  # more than most make of a position
    if L * each <= SLICE_BYTES:
        return [(rows, slice(0, L)) for rows in slices(B, L * each, SLICE_BYTES)]
    parts = slices(L, each, SLICE_BYTES)
    return [(slice(b, b + 1), part) for b in range(B) for part in parts]


def _add_mlp(block: Block, x: Tensor, memory: int) -> None:
    """x += mlp(norm2(x)), by slices unless the MLP does more than its formula."""
    for part in _positions(x, block, memory):
        part += block.mlp(normalize(block.norm2, part, block.mlp))


def _positions(x: Tensor, block: Block, memory: int) -> Iterator[Tensor]:
    """Slices of the positions of all rows, (1, P, D) each, in the memory of x."""
    if not is_positionwise(block.mlp):
        yield x
        return
    B, L, D = x.shape
    flat = x.view(1, B * L, D)
    each = working_memory(block, flat[:, :1])
    for part in slices(B * L, each, min(memory, SLICE_BYTES)):
        yield flat[:, part]


def is_positionwise(mlp: nn.Module) -> bool:
    """Whether the MLP is its formula, and so the same on each position."""
    return is_plain(mlp, MLP) and matrix_of(mlp.up) is not None and matrix_of(mlp.down) is not None
