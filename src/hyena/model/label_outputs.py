"""What the head for labels says of sequences. Sizes: B batch, L length, C classes or targets."""

import torch
from torch import Tensor

from hyena.arguments import shown
from hyena.model.label_head import LabelHead
from hyena.model.language_model import LanguageModel
from hyena.model.norm import normalize
from hyena.ops.arguments import check_tensor
from hyena.ops.observed import compiling, mapped


def label_head_of(what: str, model: LanguageModel) -> LabelHead:
    """The model's head for labels. Raises: ValueError, which begins with ``what``, without one."""
    if model.label_head is None:
        raise ValueError(
            f"{what}: the model has no head for labels; train one with hyena train --init MODEL "
            "--task classification"
        )
    return model.label_head


def label_outputs(model: LanguageModel, input_ids: Tensor, lengths: Tensor) -> Tensor:
    """The logits of classes, or the standardised numbers, of sequences or of their positions.

    Rows are padded on the right, where a causal model sees no padding before it is over: each row
    has what it has alone, to rounding. A long input without gradients goes through each block in
    pieces, see ``LanguageModel.working_memory``.

    Args:
        input_ids: (B, L), see `hyena.LanguageModel.forward`; any ids at padding.
        lengths: (B,) int64 or int32, the tokens of each row, one or more, with the end of text
            before them if the labels ask for it.

    Returns: (B, C), or of each position (B, L, C), float32 or wider; see `LabelHead`.
    Raises: ValueError if the model has no head for labels, on other lengths, and as
        `hyena.LanguageModel.forward`.
    """
    head = label_head_of("label_outputs", model)
    x, _ = model._enter(input_ids, None, None, None)
    _check_lengths(lengths, input_ids, 2 if head.labels.begin else 1)
    columns = torch.arange(input_ids.shape[1], device=x.device)
    there = columns < lengths.unsqueeze(1)
    if x.requires_grad:
        # The gradient at padding is 0, but through an FFT it would be a rounding error, which AdamW
        # makes a whole step of for a token that is nothing but padding.
        x = torch.where(there.unsqueeze(-1), x, x.detach())
    if model.activation_checkpointing and model.training and torch.is_grad_enabled():
        x = model._checkpointed(x, None, None)
    else:
        x = model._through_blocks(x, None, None)
    real = there & (columns >= (1 if head.labels.begin else 0))
    return head(normalize(model.norm, x, head), real)


def _check_lengths(lengths: Tensor, input_ids: Tensor, least: int) -> None:
    """Raises ValueError unless there is one for each row, with at least so many tokens."""
    check_tensor("label_outputs", "lengths", lengths)
    rows, most = input_ids.shape
    whole = lengths.dtype in (torch.int64, torch.int32)
    fit = lengths.shape == (rows,) and whole and lengths.device == input_ids.device
    seen = lengths.device.type == "cpu" and not compiling() and not mapped(lengths)
    if fit and rows and seen:  # another device would be waited for
        fit = least <= int(lengths.min()) and int(lengths.max()) <= most
    if not fit:
        raise ValueError(
            f"label_outputs: expected lengths ({rows},) from {least} to {most}, integers on "
            f"{input_ids.device}, got {shown(lengths)}"
        )
