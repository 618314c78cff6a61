"""What a task hands to a model, prompts and what to predict where, and when it is answered.

Sizes: B batch, T positions of the model's input, E features of a real-valued position.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from hyena.arguments import IGNORE as IGNORE
from hyena.ops.arguments import check_tensor


class Batch(NamedTuple):
    """Prompts with their answers."""

    inputs: Tensor
    """(B, T) int64 tokens, or (B, T, E) float32."""
    targets: Tensor
    """(B, T) int64 with `IGNORE` where there is no loss, or (B, T) float32 with NaN there. The
    target of a position is what the model's output at that position should say."""
    answers: Tensor
    """(B, T) bool: where accuracy, or the squared error, is measured. Each has a target."""


def exact_match(predicted: Tensor, batch: Batch) -> Tensor:
    """Whether all answers of a prompt are right, (B,) bool.

    A prompt with several answers, such as the digits of a sum, shows the model the right ones up
    to the one it is asked for. Exact match is nevertheless what greedy generation reaches: the
    digits it has written equal the right ones until its first mistake, which is the same mistake.

    Args:
        predicted: likeliest token at each position, (B, T).
        batch: the prompts, of tokens.

    Raises: ValueError if the shapes differ, or if they are no whole numbers.
    """
    check_tensor("exact_match", "predicted", predicted)
    shape = tuple(batch.targets.shape)
    if predicted.shape != shape or predicted.is_floating_point() or predicted.is_complex():
        raise ValueError(
            f"exact_match: expected a predicted token at each position, {shape}, got "
            f"{tuple(predicted.shape)} of {predicted.dtype}"
        )
    return ((predicted == batch.targets) | ~batch.answers).all(dim=1)
