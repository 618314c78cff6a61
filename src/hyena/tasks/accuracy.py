"""When a prompt counts as answered."""

from __future__ import annotations

from torch import Tensor

from hyena.tasks.batch import Batch


def exact_match(predicted: Tensor, batch: Batch) -> Tensor:
    """Whether all answers of a prompt are right, (B,) bool.

    A prompt with several answers, such as the digits of a sum, shows the model the right ones up
    to the one it is asked for. Exact match is nevertheless what greedy generation reaches: the
    digits it has written equal the right ones until its first mistake, which is the same mistake.

    Args:
        predicted: likeliest token at each position, (B, T).
        batch: the prompts, of tokens.

    Raises: ValueError if the shapes differ.
    """
    if predicted.shape != batch.targets.shape:
        raise ValueError(
            f"exact_match: expected a predicted token at each position, "
            f"{tuple(batch.targets.shape)}, got {tuple(predicted.shape)}"
        )
    return ((predicted == batch.targets) | ~batch.answers).all(dim=1)
