"""Blocks of a model at one more position, for a few rows, in one call of the kernel: norms, MLP and
residuals, and the mixers where they are Hyena operators.

Sizes: B rows, D width, H hidden.
"""

import ctypes
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hyena.ops.native import library
from hyena.ops.native._abi import DTYPES, Block, Norm, Step
from hyena.ops.native._call import in_order
from hyena.ops.native.linear import Layer, few, is_layer, readable
from hyena.ops.observed import unobserved


class LayerNorm(NamedTuple):
    """weight (x − mean) / √(variance + epsilon) + bias, of the D numbers of a row."""

    weight: Tensor
    bias: Tensor
    epsilon: float


class Layers(NamedTuple):
    """A block, x + mixer(norm(x)), then x + down(gelu(up(norm(x)))), but for its mixer. The GELU is
    that of tanh."""

    before_mixer: LayerNorm
    before_mlp: LayerNorm
    up: Layer
    down: Layer


def takes(x: Tensor, layers: Layers) -> bool:
    """Whether the kernel can take x (B, D) through such a block: it is a few rows of float32, the
    parameters are of one dtype and fit, no gradient is recorded, and nothing looks on."""
    first, second, up, down = layers
    norms, dtype, width = (*first[:2], *second[:2]), first.weight.dtype, x.shape[1:]
    return (
        library.kernel() is not None
        and unobserved(x, *norms, *up, *down)
        and x.dtype == torch.float32
        and x.is_cpu
        and few(x)
        and dtype in DTYPES
        and all(readable(p, dtype) and p.shape == width for p in norms)
        and is_layer(up, dtype, x.shape[1])
        and is_layer(down, dtype, up[0].shape[0])
        and down[0].shape[:1] == width
    )


def after_mixer(x: Tensor, mixed: Tensor, layers: Layers) -> Tensor | None:
    """r + down(gelu(up(norm(r)))) for r = x + mixed, (B, D), x being what the kernel `takes`; None
    if ``mixed`` is not like it."""
    if not (unobserved(mixed) and few(mixed) and mixed.is_cpu and mixed.shape == x.shape):
        return None
    mixed = in_order(mixed)
    block = _block(x, layers)
    block.mixed, block.mixed_dtype = mixed.data_ptr(), DTYPES[mixed.dtype]
    return _run(x, [block])


def through(x: Tensor, blocks: Sequence[tuple[Layers, Step]]) -> Tensor:
    """x (B, D), which the kernel `takes`, after these blocks, each with its mixer's step."""
    made = []
    for layers, step in blocks:
        block = _block(x, layers)
        block.step = ctypes.pointer(step)
        made.append(block)
    return _run(x, made)


def _block(x: Tensor, layers: Layers) -> Block:
    """Without the mixer."""
    first, second, up, down = layers
    return Block(
        *(x.shape[0], x.shape[1], up[0].shape[0]),
        *(DTYPES[first.weight.dtype], 0),
        Norm(first.weight.data_ptr(), first.bias.data_ptr(), first.epsilon),
        Norm(second.weight.data_ptr(), second.bias.data_ptr(), second.epsilon),
        *(None, None),
        *(None if p is None else p.data_ptr() for p in (*up, *down)),
    )


def _run(x: Tensor, blocks: list[Block]) -> Tensor:
    y = x.clone(memory_format=torch.contiguous_format)  # which makes of a negated view its values
    if library.loaded().blocks((Block * len(blocks))(*blocks), len(blocks), y.data_ptr()):
        raise MemoryError("the native kernel found no memory for a block")
    return y
