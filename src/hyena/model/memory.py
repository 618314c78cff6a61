"""How much memory a model of Hyena layers takes of a long input; ``docs/long_context.md`` has the
formula in words.

Sizes: B batch, L length, D width, W width of the filter's network.
"""

from typing import Literal, cast

import torch

from hyena.arguments import shown
from hyena.filters import Filter, HyenaFilter
from hyena.filters.encoding import KEPT_BYTES
from hyena.filters.precision import wide
from hyena.mixers.hyena import HyenaOperator
from hyena.mixers.hyena.groups import SHORTEST, Layout, bytes_of_channel, groups_of, layout_of
from hyena.model.block import Block
from hyena.model.language_model import LanguageModel
from hyena.model.linear_cross_entropy import LOGITS_BYTES
from hyena.model.mlp import GatedMLP, hidden_arrays
from hyena.model.norm import RMSNorm
from hyena.model.recomputed import memory_of
from hyena.model.streaming import bytes_of_position

Way = Literal["direct", "gradients"]

STREAMS: dict[Way, int] = {"direct": 2, "gradients": 4}
"""Arrays (B, L, D) beside the inputs of layers that are kept for the backward pass: the stream, and
what lies between an operator's projections; with gradients those of both."""

SCRATCH: dict[Way, int] = {"direct": 5, "gradients": 8}
"""Numbers of a position that each thread of the kernel keeps; for a batch gradients take 4 more.
``docs/kernel.md`` has them in bytes."""

EXCHANGED = 4
"""Arrays of a piece that an exchange makes: what is sent and received, each as it was and as it is
put together."""

HEAP_BYTES = 1 << 25
"""glibc may keep an array of up to this size in its heap, whose gaps come on top."""


def reckons(model: LanguageModel) -> bool:
    """Whether its layers all take long inputs in pieces: each mixer a `hyena.HyenaOperator` that is
    not block-causal."""
    return len(_found(model)) == len(model.blocks)


def forward_bytes(model: LanguageModel, length: int, batch: int = 1, *, logits: bool = True) -> int:
    """Bytes that a `LanguageModel.forward` without gradients takes at its peak: weights, what it
    computes, logits, and in evaluation what is kept for the next.

    Args: logits: all at once; otherwise a slice of them, as ``targets=`` and `token_losses` take.

    Raises: ValueError unless it `reckons` with such a model.
    """
    head = _logits(model, length, batch)
    if not logits:
        head = min(LOGITS_BYTES, head)
    between = _block(model, length, batch, "direct") + _filter(model, length)
    streams = STREAMS["direct"] * _stream(model, length, batch)
    return (
        weights(model)
        + streams
        + max(between, head)
        + _scratch(model, length, batch, "direct")
        + sum(kept_of_filters(model, length, batch))
    )


def step_bytes(model: LanguageModel, length: int, batch: int = 1) -> int:
    """The same of a step of training in which blocks are recomputed (``activation_checkpointing``):
    the loss by ``forward(..., targets=...)``, gradients, and AdamW."""
    between = _block(model, length, batch, "gradients") + 3 * _filter(model, length)
    streams = len(model.blocks) + STREAMS["gradients"]
    return (
        trained_weights(model)
        + streams * _stream(model, length, batch)
        + max(between, 3 * min(LOGITS_BYTES, _logits(model, length, batch)))
        + _scratch(model, length, batch, "gradients")
    )


def activation_bytes(
    model: LanguageModel, length: int, batch: int = 1, *, processes: int = 1
) -> int:
    """What `step_bytes` has beside `trained_weights`; on each process, if so many share the rows.

    Pieces of rows go through blocks whole, which PyTorch recomputes. A filter's network is run for
    all positions on each process, and the kernel transforms whole rows.

    Raises: ValueError unless it `reckons` with such a model.
    """
    if processes == 1:
        return step_bytes(model, length, batch) - trained_weights(model)
    piece = -(-length // processes)
    stream = _stream(model, piece, batch)
    block = max(_whole(model, block, piece, batch, "gradients") for block in _blocks(model))
    between = block + EXCHANGED * stream + 3 * _filter(model, length)
    return (
        (len(model.blocks) + STREAMS["gradients"]) * stream
        + max(between, 3 * min(LOGITS_BYTES, _logits(model, piece, batch)))
        + _scratch(model, length, batch, "gradients")
    )


def trained_weights(model: LanguageModel) -> int:
    """Bytes of the weights with their gradients and AdamW's two moments."""
    return 4 * weights(model)


def weights(model: LanguageModel) -> int:
    """Bytes of the weights, which any model has."""
    return sum(p.nbytes for p in model.parameters())


def may_leave_gaps(model: LanguageModel, length: int, batch: int = 1) -> bool:
    """Whether the residual stream is no larger than what glibc may keep in its heap."""
    return _stream(model, length, batch) <= HEAP_BYTES


def filters_kept(model: LanguageModel, length: int) -> list[Filter]:
    """The filters whose spectra evaluation may keep between inputs of this length."""
    found = (op for op in model.modules() if isinstance(op, HyenaOperator))
    return list(dict.fromkeys(op.filter for op in found if op.keeps_spectra(length)))


def kept_of_filters(model: LanguageModel, length: int, batch: int = 1) -> list[int]:
    """Bytes of each filter that is kept in evaluation, as a pass comes to them, until `kept_memory`
    has no room for another."""
    if in_groups(model, length, batch):
        return []
    found: list[int] = []
    for filter in filters_kept(model, length):
        size = filter.kept_bytes(length)
        found += [size] if sum(found) + size <= model.kept_memory else []
    return found


def in_groups(model: LanguageModel, length: int, batch: int = 1) -> bool:
    """Whether a forward pass without gradients takes Hyena layers by groups of channels, of whose
    filters nothing is kept."""
    return any(
        _in_pieces(model, block, length, batch, "direct")
        for block in model.blocks
        if isinstance(block, Block) and isinstance(block.mixer, HyenaOperator)
    )


def _stream(model: LanguageModel, length: int, batch: int) -> int:
    return batch * length * model.config.width * _dtype(model).itemsize


def _dtype(model: LanguageModel) -> torch.dtype:
    """Of the residual stream."""
    return torch.promote_types(model.embedding.weight.dtype, torch.float32)


def _logits(model: LanguageModel, length: int, batch: int) -> int:
    return batch * length * model.config.vocab_size * model.embedding.weight.itemsize


def _block(model: LanguageModel, length: int, batch: int, way: Way) -> int:
    """What a block makes beside the streams: of some channels, or all that it makes of an input
    that it takes whole."""
    blocks = _blocks(model)
    return max((_of_block(model, block, length, batch, way) for block in blocks), default=0)


def _of_block(model: LanguageModel, block: Block, length: int, batch: int, way: Way) -> int:
    op = cast(HyenaOperator, block.mixer)
    dtype, projections = op.in_proj.weight.dtype, op.order + 1
    row = batch * length * dtype.itemsize
    each = bytes_of_channel(op, batch, length, dtype, way)
    if not _in_pieces(model, block, length, batch, way):
        of_operator = each if way == "gradients" else each + projections * row
        return max(op.width * of_operator, _whole(model, block, length, batch, way))
    layout = _layout(model, op, length, batch, way)
    channels = _channels(model, op, length, batch, way)
    if way == "direct":
        return layout.beside * row + channels * each
    # Of a group the projections are in the rows beside the output, if these are enough.
    beside = max(layout.beside, projections * channels)
    return beside * row + channels * (each - projections * row)


def _whole(model: LanguageModel, block: Block, length: int, batch: int, way: Way) -> int:
    """What a block that takes its input whole makes beside the streams, counted in calls."""
    stream, hidden = _stream(model, length, batch), _hidden(model, block, length, batch)
    N = cast(HyenaOperator, block.mixer).order
    if way == "gradients":
        # What operator and norms leave for their gradients, taps, and as many hidden values again,
        # half of it of a plain MLP; dropout leaves what it drew.
        arrays = 4 * N - 4 + (N + 7) * (block.dropout > 0)
        arrays += sum(isinstance(norm, RMSNorm) for norm in (block.norm1, block.norm2))
        values = 2 * hidden if isinstance(block.mlp, GatedMLP) else 3 * hidden // 2
        return arrays * stream + N * stream // batch + values
    if hidden > model.working_memory:  # the MLP goes by slices though rows are short
        return (N + 2) * stream
    arrays = hidden_arrays(block.mlp)  # of which an activation takes another's place
    return hidden * (arrays - 1) // arrays + (N + 4) * stream  # with the operator's workspace


def _hidden(model: LanguageModel, block: Block, length: int, batch: int) -> int:
    """What decides whether an input goes in pieces."""
    return batch * length * bytes_of_position(block, model.config.width, _dtype(model))


def _layout(model: LanguageModel, op: HyenaOperator, length: int, batch: int, way: Way) -> Layout:
    """How an operator goes by groups of channels where no gradients are made."""
    memory = _memory(model, way)
    return layout_of(op, batch, length, memory, op.in_proj.weight.dtype, "direct")


def _channels(model: LanguageModel, op: HyenaOperator, length: int, batch: int, way: Way) -> int:
    """How many channels an operator that goes by groups of them convolves at once."""
    if way == "direct":
        layout = _layout(model, op, length, batch, way)
        return min(layout.share, len(range(op.width)[layout.groups[0]]))
    dtype = op.in_proj.weight.dtype
    return len(range(op.width)[groups_of(op, batch, length, _memory(model, way), dtype)[0]])


def _memory(model: LanguageModel, way: Way) -> int:
    return model.working_memory if way == "direct" else memory_of(model.working_memory)


def _in_pieces(model: LanguageModel, block: Block, length: int, batch: int, way: Way) -> bool:
    """Whether an operator goes by groups of channels, and with gradients the block in pieces;
    `streaming.takes` and `recomputed.takes` ask the same of an input."""
    long = _hidden(model, block, length, batch) > _memory(model, way)
    return long and length >= SHORTEST and (way == "direct" or block.dropout == 0)


def _scratch(model: LanguageModel, length: int, batch: int, way: Way) -> int:
    """What the kernel's threads keep for their transforms, of as many channels and rows as there
    are at once."""
    numbers = SCRATCH[way] + 4 * (way == "gradients" and batch > 1)
    channels = 0
    for block in _blocks(model):
        op = cast(HyenaOperator, block.mixer)
        pieces = _in_pieces(model, block, length, batch, way)
        channels = max(channels, _channels(model, op, length, batch, way) if pieces else op.width)
    threads = min(torch.get_num_threads(), batch * channels)
    return threads * numbers * length * wide(_dtype(model)).itemsize


def _filter(model: LanguageModel, length: int) -> int:
    """What all channels of a filter are made of: the values of the network's last hidden layer, and
    the encoding of positions if it is kept."""
    mixers = [cast(HyenaOperator, block.mixer) for block in _blocks(model)]
    filters = [op.filter for op in mixers if isinstance(op.filter, HyenaFilter)]
    numbers = [(f, length * wide(f.skip.dtype).itemsize) for f in filters]
    hidden = max((each * f.sine_freq.shape[0] for f, each in numbers), default=0)
    encodings = (each * f.emb_dim for f, each in numbers if f.encoding is None)
    return hidden + max((x for x in encodings if x <= KEPT_BYTES), default=0)


def _blocks(model: LanguageModel) -> list[Block]:
    if not reckons(model):
        raise ValueError(
            "memory is reckoned of models whose layers all take long inputs in pieces, the mixer "
            f"hyena without block_causal; got mixers={shown(model.config.mixers)}, "
            f"block_causal={model.config.block_causal}"
        )
    return _found(model)


def _found(model: LanguageModel) -> list[Block]:
    blocks = [block for block in model.blocks if isinstance(block, Block)]
    return [
        block
        for block in blocks
        if isinstance(block.mixer, HyenaOperator) and not block.mixer.block_causal
    ]
