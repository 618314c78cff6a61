"""What a task hands to a model: prompts, what to predict, and where it is asked.

Sizes: B batch, T positions of the model's input, E features of a real-valued position.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

IGNORE = -100
"""Target of a position without loss, which `torch.nn.functional.cross_entropy` skips by default."""


class Batch(NamedTuple):
    """Prompts with their answers."""

    inputs: Tensor
    """(B, T) int64 tokens, or (B, T, E) float32."""
    targets: Tensor
    """(B, T) int64 with `IGNORE` where there is no loss, or (B, T) float32 with NaN there. The
    target of a position is what the model's output at that position should say."""
    answers: Tensor
    """(B, T) bool: where accuracy, or the squared error, is measured. Each has a target."""
