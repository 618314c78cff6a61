"""Log-probabilities under the model's own distribution. Sizes: B sequences, V vocabulary."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from hyena.data.arguments import whole_number
from hyena.generation.sampling import widened

Alternatives = list[tuple[int, float]]
"""Token ids with their log-probabilities, the likeliest first."""


def check_alternatives(count: Any, vocab_size: int) -> None:
    """Raises ValueError if so many likeliest tokens cannot be listed."""
    if not 0 <= whole_number("alternatives", count) <= vocab_size:
        raise ValueError(
            f"alternatives: expected 0 to {vocab_size}, the size of the vocabulary, got {count}"
        )


def logprobs(logits: Tensor) -> Tensor:
    """Natural logarithms of the probabilities that the model gives: (B, V), float64.

    Raises: ValueError if the logits (B, V) are not finite.
    """
    return widened(logits).log_softmax(-1)


def likeliest(logprobs: Tensor, count: int) -> list[Alternatives]:
    """The ``count`` likeliest tokens of each row of `logprobs` (B, V)."""
    top = logprobs.topk(count)
    pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
    return [list(zip(ids, values, strict=True)) for ids, values in pairs]
