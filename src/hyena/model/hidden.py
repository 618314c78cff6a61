"""What the layers of a language model make of tokens. Sizes: B batch, L length, D width."""

import torch
from torch import Tensor

from hyena.arguments import check_whole
from hyena.model.language_model import LanguageModel
from hyena.model.norm import normalize


@torch.no_grad()
def hidden(model: LanguageModel, input_ids: Tensor, block: int | None = None) -> Tensor:
    """The residual stream after a block, or what the head reads.

    A long input goes through each block in pieces, see ``LanguageModel.working_memory``, so that
    little more than the stream is in memory. No gradient is recorded.

    Args:
        input_ids: (B, L), see `hyena.LanguageModel.forward`.
        block: counted from 0; None for what comes after all blocks and the norm.

    Returns: (B, L, D), after a block in float32 or wider, after the norm in the parameters' dtype.
    Raises: ValueError as `hyena.LanguageModel.forward`, or if there is no such block.
    """
    if block is not None:
        block = check_whole("hidden: block", block, 0, len(model.blocks) - 1)
    return model._hidden(input_ids, block)


@torch.no_grad()
def mixer_input(model: LanguageModel, input_ids: Tensor, block: int) -> Tensor:
    """What the mixer of a block is given: the residual stream before the block, normalised.

    Args:
        input_ids: (B, L), see `hyena.LanguageModel.forward`.
        block: counted from 0.

    Returns: (B, L, D), in the dtype of the mixer's parameters.
    Raises: ValueError as `hidden`.
    """
    block = check_whole("mixer_input: block", block, 0, len(model.blocks) - 1)
    at, before = model._blocks()[block], model._hidden(input_ids, block - 1)
    return normalize(at.norm1, before, at.mixer)
