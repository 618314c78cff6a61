"""What a language model is given: ids, targets, lengths and states, or one clear line.

Sizes: B batch, L length.
"""

import torch
from torch import Tensor

from hyena.arguments import IGNORE, plural
from hyena.generation.state import ModelState
from hyena.mixers.state import MixerState
from hyena.model.config import ModelConfig
from hyena.ops.arguments import check_tensor
from hyena.ops.observed import compiling, mapped


def check_ids(input_ids: Tensor, dimensions: int, config: ModelConfig) -> None:
    """Raises TypeError or ValueError unless they are ids (B, L), or with one dimension (B,)."""
    check_tensor("LanguageModel", "input_ids", input_ids)
    shape = "(B, L)" if dimensions == 2 else "(B,)"
    if input_ids.dim() != dimensions:
        raise ValueError(
            f"LanguageModel: expected input_ids {shape}, got {tuple(input_ids.shape)}; add or "
            "remove a dimension, as input_ids[None] does"
        )
    if input_ids.dtype not in (torch.int64, torch.int32):
        raise ValueError(
            f"LanguageModel: expected input_ids of int64 or int32, got {input_ids.dtype}"
        )
    _check_vocabulary(input_ids, config)


def check_state(what: str, state: ModelState, input_ids: Tensor, layers: int) -> None:
    """Raises TypeError or ValueError unless a model of so many layers can go on from a state with
    these ids.

    Args: what: the method that is to.
    """
    if not isinstance(state, ModelState):
        raise TypeError(
            f"LanguageModel.{what}: expected a ModelState, got {type(state).__name__}; pass "
            "what prefill or step of this model returned"
        )
    if len(state.layers) != layers:
        raise ValueError(
            f"LanguageModel.{what}: the state is of {len(state.layers)} "
            f"{plural(len(state.layers), 'layer')}, but the model has {layers}; pass "
            "what prefill or step of this model returned"
        )
    if not state.whole:
        raise ValueError(
            f"LanguageModel.{what}: an error left this state in the middle of a step, some "
            "layers before a token and some after; go on from a copy made before it"
        )
    # Of the first layer: wrapped blocks may be on devices of their own.
    device = state.layers[0].device
    if device != input_ids.device:
        raise ValueError(
            f"LanguageModel.{what}: input_ids are on {input_ids.device} but the state is on "
            f"{device}; move one of them, as state.to({str(input_ids.device)!r}) does"
        )
    for layer in state.layers:
        after = position_of(layer)
        if after is not None and after != state.length:
            raise ValueError(
                f"LanguageModel.{what}: the state is of {state.length} tokens but one of its "
                f"layers of {after}; pass what prefill or step of this model returned"
            )


def check_rows(input_ids: Tensor, state: ModelState) -> None:
    """Raises ValueError unless ids (B, L) are of the rows of a state."""
    rows = state.layers[0].batch
    if input_ids.shape[0] != rows:
        raise ValueError(
            f"LanguageModel.prefill: expected input_ids (B, L) of the state's B = {rows} rows, "
            f"got {tuple(input_ids.shape)}"
        )


def check_targets(targets: Tensor, input_ids: Tensor, config: ModelConfig) -> None:
    """Raises TypeError or ValueError unless there is a target, or none, for each id."""
    check_tensor("LanguageModel", "targets", targets)
    if targets.shape != input_ids.shape or targets.dtype not in (torch.int64, torch.int32):
        raise ValueError(
            f"LanguageModel: expected int64 targets {tuple(input_ids.shape)} like input_ids, "
            f"got {tuple(targets.shape)} of {targets.dtype}"
        )
    _check_vocabulary(targets.where(targets != IGNORE, 0), config)


def _check_vocabulary(ids: Tensor, config: ModelConfig) -> None:
    if ids.device.type == "cpu" and ids.numel() and not compiling() and not mapped(ids):
        low, high = _range(ids)
        if low < 0 or high >= config.vocab_size:
            raise ValueError(
                f"LanguageModel: token id {low if low < 0 else high} is outside the vocabulary "
                f"of {config.vocab_size}; was the text tokenized with another tokenizer?"
            )


def check_length(length: int, config: ModelConfig) -> None:
    """Raises ValueError if the length policy refuses so many tokens."""
    if length > config.max_length and config.length_policy == "error":
        raise ValueError(
            f"the input is {length} tokens long but the model's max_length is "
            f"{config.max_length}; shorten it, or build or load the model with "
            'length_policy "extrapolate" or "interpolate"'
        )


def check_room(length: int, future: int, config: ModelConfig) -> None:
    """Raises ValueError if the length policy refuses ``future`` tokens after so many."""
    limit = config.max_length
    if length + future > limit and config.length_policy == "error":
        raise ValueError(
            f"LanguageModel.prefill: {length} {plural(length, 'token')} and "
            f"future={future} more exceed the model's max_length {limit}; plan for "
            f"{max(limit - length, 0)}, or load the model "
            'with length_policy "extrapolate"'
        )


def position_of(state: MixerState) -> int | None:
    """The tokens that a state has read, if a step writes to it; None if a step replaces it."""
    found: int | None = getattr(state, "length", None)
    return found


def _range(ids: Tensor) -> tuple[int, int]:
    """The least and the largest."""
    if ids.dim() == 1:  # a few, of a step, for which two ops would take longer
        values = ids.tolist()
        return min(values), max(values)
    low, high = ids.aminmax()
    return int(low), int(high)
