"""A language model's passes over what transformers hands in: masks of integers, embeddings instead
of tokens, a cache, hidden states asked for.

Sizes: B batch, L length, D width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from hyena.generation.state import ModelState
from hyena.huggingface.cache import HyenaCache
from hyena.mixers.mixer import Room
from hyena.mixers.state import MixerState
from hyena.model import LanguageModel
from hyena.model.block import Block
from hyena.model.inputs import check_length, check_room
from hyena.ops.observed import compiling


class Given(NamedTuple):
    """Tokens or their embeddings, and which of them are real."""

    input_ids: Tensor | None
    inputs_embeds: Tensor | None
    mask: Tensor | None  # (B, L) bool; None if all are

    @property
    def length(self) -> int:
        return self._one.shape[1]

    @property
    def _one(self) -> Tensor:
        return self.input_ids if self.inputs_embeds is None else self.inputs_embeds  # type: ignore[return-value]

    def real(self) -> Tensor:
        """The mask, also if all are real."""
        if self.mask is not None:
            return self.mask
        return torch.ones(self._one.shape[:2], dtype=torch.bool, device=self._one.device)


def given(
    name: str,
    input_ids: Tensor | None,
    inputs_embeds: Tensor | None,
    attention_mask: Tensor | None,
    before: int = 0,
) -> Given:
    """What a model of this name is called with, after so many tokens.

    Raises: ValueError on both or none of tokens and embeddings, on embeddings or a mask of other
        sizes, on a mask of other numbers than 0 and 1 or without a 1, and on padding after the
        first tokens.
    """
    if (input_ids is None) == (inputs_embeds is None):
        got = "none" if input_ids is None else "both"
        raise ValueError(f"{name}: expected input_ids or inputs_embeds, got {got} of them")
    if inputs_embeds is not None and inputs_embeds.dim() != 3:
        raise ValueError(
            f"{name}: expected inputs_embeds (B, L, D), got {tuple(inputs_embeds.shape)}"
        )
    found = Given(input_ids, inputs_embeds, None)
    shape = found._one.shape[:2]
    return found._replace(mask=_mask(name, attention_mask, shape, before))


def _mask(name: str, mask: Tensor | None, shape: tuple[int, ...], before: int) -> Tensor | None:
    """Which of the new tokens are real, (B, L) bool; None if all are."""
    if mask is None:
        return None
    batch, length = shape
    if tuple(mask.shape) not in ((batch, before + length), (batch, length)):
        raise ValueError(
            f"{name}: expected attention_mask (B, L) = ({batch}, {before + length}), 1 at real "
            f"tokens, got {tuple(mask.shape)}"
        )
    new = (mask if mask.dtype == torch.bool else mask != 0)[:, mask.shape[1] - length :]
    if compiling() or new.is_meta:
        return new
    _check_numbers(name, mask)
    if bool(new.all()):
        return None
    if before:
        raise ValueError(
            f"{name}: after the first tokens of a cache all are real, but attention_mask has "
            "padding among them; pad the first tokens on the left"
        )
    return new


def _check_numbers(name: str, mask: Tensor) -> None:
    """Raises ValueError on a mask that is to be added to scores: 0 where others have 1."""
    others = mask[(mask != 0) & (mask != 1)]
    if others.numel() or (mask.numel() and not bool(mask.any())):
        got = f"{others[0].item()}" if others.numel() else "0 everywhere"
        raise ValueError(
            f"{name}: expected attention_mask of 1 at real tokens and 0 at padding, got {got}; of "
            "a mask that is added to scores give mask == 0"
        )


def enter(model: LanguageModel, name: str, inputs: Given, before: int = 0) -> Tensor:
    """The residual stream (B, L, D) that goes into the blocks, after so many tokens."""
    if inputs.input_ids is not None:
        return model._enter(inputs.input_ids, inputs.mask, None, None, before)[0]
    x = inputs.inputs_embeds
    assert x is not None
    if x.shape[2] != model.config.width:
        raise ValueError(
            f"{name}: expected inputs_embeds (B, L, {model.config.width}), got {tuple(x.shape)}"
        )
    check_length(before + x.shape[1], model.config)
    # A copy: blocks may write into the stream, and these numbers are the caller's.
    x = x.to(torch.promote_types(x.dtype, torch.float32), copy=True)
    if model.positions is not None:
        if inputs.mask is not None:
            raise ValueError(f"{name}: learned positions count columns; run rows of one length")
        columns = before + torch.arange(x.shape[1], device=x.device)
        x = x + model.positions(columns).to(x.dtype)
    return F.dropout(x, model.config.dropout, model.training)


def through(
    model: LanguageModel,
    x: Tensor,
    mask: Tensor | None,
    seen: list[Tensor] | None,
    *,
    causal: bool = True,
) -> Tensor:
    """The stream after all blocks; what goes into each is appended to ``seen``, if that is asked
    for."""
    if seen is not None:
        for block in model.blocks:
            seen.append(x)
            x = block(x, mask, None)
        return x
    if causal and mask is not None and _is_right_padded(mask):
        # No real token sees what comes after it. The gradient there is 0, but through an FFT it
        # would be a rounding error, of which AdamW makes a whole step.
        if x.requires_grad:
            x = torch.where(mask.unsqueeze(-1), x, x.detach())
        mask = None
    if model.activation_checkpointing and model.training and torch.is_grad_enabled():
        return model._checkpointed(x, mask, None)
    return model._through_blocks(x, mask, None)


def _is_right_padded(mask: Tensor) -> bool:
    """Whether all padding is at the right ends of rows that have a token."""
    if compiling() or mask.is_meta:
        return False
    return bool(mask[:, 0].all()) and not bool((mask[:, 1:] & ~mask[:, :-1]).any())


def remember(
    model: LanguageModel,
    name: str,
    inputs: Given,
    cache: HyenaCache,
    seen: list[Tensor] | None,
) -> Tensor:
    """The stream of further tokens after all blocks; the cache has read them then."""
    before = cache.get_seq_length()
    x, length = enter(model, name, inputs, before), before + inputs.length
    future, keep_inputs = cache.room(length)
    stream = model._stream() if seen is None else None  # which writes to what it is given

    def prefill(block: Block, x: Tensor, state: MixerState | None) -> tuple[Tensor, MixerState]:
        room = Room(future, keep_inputs, state)
        if stream is not None:
            return stream.prefill(block, x, inputs.mask, room)
        assert seen is not None
        seen.append(x)
        return block.prefill(x, inputs.mask, *room)

    def step(block: Block, x: Tensor, state: MixerState) -> tuple[Tensor, MixerState]:
        if seen is not None:
            seen.append(x[:, None])
        return block.step(x, state)

    if cache.state is not None:
        if inputs.length == 1:
            return model._through(cache.state, x[:, 0], step)[:, None]
        return model._through(cache.state, x, prefill)
    if future:
        check_room(length, future, model.config)
    layers = []
    for block in model._blocks():
        x, layer = prefill(block, x, None)
        layers.append(layer)
    cache.state = ModelState(layers, length)
    return x
