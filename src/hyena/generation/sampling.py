"""From logits to a token."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn.

    Raises: ValueError on a value outside its range.
    """

    temperature: float = 1.0
    """Logits are divided by this; 0 takes the likeliest token."""
    top_k: int | None = None
    """Keep only the k likeliest tokens."""
    top_p: float | None = None
    """Then keep the fewest likeliest tokens whose probabilities add up to p or more."""

    def __post_init__(self) -> None:
        if not self.temperature >= 0:
            raise ValueError(f"temperature: expected at least 0, got {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k: expected at least 1, got {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p: expected 0 < top_p ≤ 1, got {self.top_p}")


def sample(logits: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """One token id drawn from logits (V,), with the generator's randomness.

    Raises: ValueError if the logits are not finite.
    """
    logits = logits.detach().to("cpu", torch.promote_types(logits.dtype, torch.float32))
    if not bool(logits.isfinite().all()):
        raise ValueError("the model's logits are not finite; its weights may be damaged")
    if sampling.temperature == 0:
        return int(logits.argmax())
    order = logits.argsort(descending=True, stable=True)
    if sampling.top_k is not None:
        order = order[: sampling.top_k]
    # From the likeliest down and in float64, so that no temperature, however small, overflows.
    below = (logits[order] - logits[order[0]]).double()
    probabilities = (below / sampling.temperature).softmax(0).to(logits.dtype)
    if sampling.top_p is not None:
        before = probabilities.cumsum(0) - probabilities
        keep = before < sampling.top_p  # the likeliest always stays
        order, probabilities = order[keep], probabilities[keep]
    choice = torch.multinomial(probabilities, 1, generator=generator)
    return int(order[choice])
