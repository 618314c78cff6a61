"""Floating point operations of a step of training: each part of the model as often as it runs.

A step runs a part once forward, and its backward pass counts as two. With
``activation_checkpointing`` a block runs once more. Where a block then goes back in pieces
(`hyena.model.recomputed`), the part of an operator that lies before its convolutions is made again
for each group of channels, after the operator's output was: five times in all. The kernel takes the
convolutions of order 2 back without their output; those of a higher order run again as well.
"""

from dataclasses import replace
from typing import cast

from torch import nn

from hyena.filters.precision import wide
from hyena.mixers.flops import LayerFlops
from hyena.mixers.hyena import HyenaOperator, groups
from hyena.model.block import Block
from hyena.model.flops import ModelFlops
from hyena.model.language_model import LanguageModel
from hyena.model.recomputed import memory_of
from hyena.model.streaming import bytes_of_position

_PASSES = 3
_BEFORE = ("projections", "filter_network", "filter_values", "filter_fft")
_CONVOLUTIONS = ("short_conv", "gates", "long_conv")


def step_flops(model: LanguageModel, length: int, batch: int = 1) -> ModelFlops:
    """Operations of forward and backward pass of a batch (B, L), as executed; `model.flops` has
    those of a forward pass.

    The model's ``activation_checkpointing`` and ``working_memory`` count, and the dtype of its
    parameters. Blocks are taken for those of a CPU: on an accelerator under autocast none goes back
    in pieces.

    Raises: as `LanguageModel.flops`.
    """
    forward = model.flops(length, batch).executed
    layers = tuple(
        _of_block(model, block, layer, forward)
        for block, layer in zip(model.blocks, forward.layers, strict=True)
    )
    return replace(forward, layers=layers, head=_PASSES * forward.head)


def _of_block(
    model: LanguageModel, block: nn.Module, layer: LayerFlops, forward: ModelFlops
) -> LayerFlops:
    passes = _PASSES + model.activation_checkpointing
    again: tuple[str, ...] = ()
    if model.activation_checkpointing and _goes_in_pieces(model, block, forward):
        again = _BEFORE if cast(HyenaOperator, block.mixer).order == 2 else _BEFORE + _CONVOLUTIONS
    parts = {name: (passes + (name in again)) * count for name, count in layer.parts.items()}
    shared = (passes + bool(again)) * layer.shared  # of filters, which are among `_BEFORE`
    return LayerFlops(parts, passes * layer.above_diagonal, shared)


def _goes_in_pieces(model: LanguageModel, block: nn.Module, forward: ModelFlops) -> bool:
    """What `hyena.model.recomputed.takes` asks of an input, from its sizes; the block is as it was
    built."""
    if not (isinstance(block, Block) and isinstance(block.mixer, HyenaOperator)):
        return False
    each = bytes_of_position(block, model.config.width, wide(model.embedding.weight.dtype))
    return (
        forward.length >= groups.SHORTEST
        and forward.batch * forward.length * each > memory_of(model.working_memory)
        and block.dropout == 0
    )
