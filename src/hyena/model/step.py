"""A step of generation through all blocks in one call of the kernel.

Between two calls Python's own code would have to come back into the caches, from which the weights
have driven it.

Sizes: B batch, D width.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from hyena.generation.state import ModelState
from hyena.mixers import HyenaOperator, HyenaState
from hyena.mixers.hyena.generation import advance
from hyena.model.block import Block
from hyena.ops.native import block as native


def at_once(blocks: Sequence[nn.Module], x: Tensor, state: ModelState) -> Tensor | None:
    """x (B, D) after the blocks, the state advanced; None, and a state that is where it was, where
    a mixer is none of Hyena's, or the kernel does not take a block as it is.

    Raises: as `hyena.LanguageModel.step`.
    """
    known = cast(list[Block], [block for block in blocks if type(block) is Block])
    if len(known) < len(blocks) or any(type(b.mixer) is not HyenaOperator for b in known):
        return None  # before more is asked, which a model of several mixers would pay in vain
    whole = []
    for block, layer in zip(known, state.layers, strict=True):
        layers = block.plain_layers()
        if layers is None or not isinstance(layer, HyenaState) or not native.takes(x, layers):
            return None
        whole.append((layers, cast(HyenaOperator, block.mixer), layer))
    like = {x.dtype: x}  # what a mixer is given, which only the kernel sees
    steps, made = [], []
    for layers, mixer, layer in whole:
        dtype = layers.before_mixer.weight.dtype
        if dtype not in like:
            like[dtype] = torch.empty_like(x, dtype=dtype)
        pending = mixer.pending(like[dtype], layer)
        if pending is None:
            return None
        step, z = pending
        steps.append((layers, step))
        made.append((layer, z, dtype))
    state.whole = False  # an interruption may come at any time
    x = native.through(x, steps)
    for layer, z, dtype in made:
        advance(layer, z, dtype)
    state.length, state.whole = state.length + 1, True
    return x
