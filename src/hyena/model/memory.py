"""How much memory a model of Hyena layers takes of a long input; ``docs/long_context.md`` has the
formula in words.

Sizes: B batch, L length, D width, W width of the filter's network.
"""

import torch

from hyena.arguments import shown
from hyena.filters import Filter, HyenaFilter
from hyena.filters.encoding import KEPT_BYTES
from hyena.filters.precision import wide
from hyena.mixers.hyena import HyenaOperator
from hyena.mixers.hyena.groups import SHORTEST, Way, bytes_of_channel, groups_of
from hyena.model.block import Block
from hyena.model.language_model import LanguageModel
from hyena.model.linear_cross_entropy import LOGITS_BYTES
from hyena.model.streaming import working_memory

STREAMS = {"direct": 2, "gradients": 4}
"""Arrays (B, L, D) beside the inputs of layers that are kept for the backward pass: the stream, and
what lies between an operator's projections; with gradients those of both."""


def reckons(model: LanguageModel) -> bool:
    """Whether its layers all take long inputs in pieces: each mixer a `hyena.HyenaOperator` that is
    not block-causal."""
    return len(_found(model)) == len(model.blocks)


def forward_bytes(model: LanguageModel, length: int, batch: int = 1) -> int:
    """Bytes that a `LanguageModel.forward` without gradients takes at its peak: weights, what it
    computes, logits, and in evaluation what is kept for the next.

    Raises: ValueError unless it `reckons` with such a model.
    """
    logits = batch * length * model.config.vocab_size * model.embedding.weight.itemsize
    between = _group(model, length, batch, "direct") + _filter(model, length)
    streams = STREAMS["direct"] * _stream(model, length, batch)
    kept = sum(kept_of_filters(model, length, batch))
    return _weights(model) + streams + max(between, logits) + kept


def step_bytes(model: LanguageModel, length: int, batch: int = 1) -> int:
    """The same of a step of training in which blocks are recomputed (``activation_checkpointing``):
    the loss by ``forward(..., targets=...)``, gradients, and AdamW."""
    between = _group(model, length, batch, "gradients") + 3 * _filter(model, length)
    streams = len(model.blocks) + STREAMS["gradients"]
    return (
        4 * _weights(model)  # with gradients and two moments
        + streams * _stream(model, length, batch)
        + max(between, 2 * LOGITS_BYTES)
    )


def kept_of_filters(model: LanguageModel, length: int, batch: int = 1) -> list[int]:
    """Bytes of each filter that is kept in evaluation, as a pass comes to them, until `kept_memory`
    has no room for another."""
    if model.config.block_causal or in_groups(model, length, batch):
        return []
    found: list[int] = []
    for part in model.modules():
        if isinstance(part, Filter):
            size = part.kept_bytes(length)
            found += [size] if sum(found) + size <= model.kept_memory else []
    return found


def in_groups(model: LanguageModel, length: int, batch: int = 1) -> bool:
    """Whether a forward pass without gradients takes Hyena layers by groups of channels, of whose
    filters nothing is kept."""
    x = torch.empty(batch, length, model.config.width, device="meta")
    memory = model.working_memory
    return length >= SHORTEST and any(
        isinstance(block, Block)
        and isinstance(op := block.mixer, HyenaOperator)
        and working_memory(block, x) > memory
        and len(groups_of(op, batch, length, memory, op.in_proj.weight.dtype, "direct")) > 1
        for block in model.blocks
    )


def _weights(model: LanguageModel) -> int:
    return sum(p.nbytes for p in model.parameters())


def _stream(model: LanguageModel, length: int, batch: int) -> int:
    dtype = torch.promote_types(model.embedding.weight.dtype, torch.float32)
    return batch * length * model.config.width * dtype.itemsize


def _group(model: LanguageModel, length: int, batch: int, way: Way) -> int:
    """What the largest group of channels makes."""
    found = 0
    for op in _operators(model):
        dtype = op.in_proj.weight.dtype
        slices = groups_of(op, batch, length, model.working_memory, dtype, way)
        largest = max(part.stop - part.start for part in slices)
        found = max(found, largest * bytes_of_channel(op, batch, length, dtype, way))
    return found


def _filter(model: LanguageModel, length: int) -> int:
    """What all channels of a filter are made of: the values of the network's last hidden layer, and
    the encoding of positions if it is kept."""
    filters = [op.filter for op in _operators(model) if isinstance(op.filter, HyenaFilter)]
    numbers = [(f, length * wide(f.skip.dtype).itemsize) for f in filters]
    hidden = max((each * f.sine_freq.shape[0] for f, each in numbers), default=0)
    encodings = (each * f.emb_dim for f, each in numbers if f.encoding is None)
    return hidden + max((x for x in encodings if x <= KEPT_BYTES), default=0)


def _operators(model: LanguageModel) -> list[HyenaOperator]:
    if not reckons(model):
        raise ValueError(
            "memory is reckoned of models whose layers all take long inputs in pieces, the mixer "
            f"hyena without block_causal; got mixers={shown(model.config.mixers)}, "
            f"block_causal={model.config.block_causal}"
        )
    return _found(model)


def _found(model: LanguageModel) -> list[HyenaOperator]:
    mixers = [block.mixer for block in model.blocks if isinstance(block, Block)]
    return [x for x in mixers if isinstance(x, HyenaOperator) and not x.block_causal]
