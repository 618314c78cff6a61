"""One token at some places of a sequence, other tokens in order at the rest.

Sizes: B batch, L length.
"""

from __future__ import annotations

import torch
from torch import Tensor


def placed(token: Tensor, here: Tensor, others: Tensor) -> Tensor:
    """``token`` (B, 1) where ``here`` (B, L) is true, elsewhere ``others`` (B, ≤ L) in their order.

    A row uses as many of its others as it has places for them; there must be enough.
    """
    taken = (~here).cumsum(1) - 1  # which of the others stands here
    return torch.where(here, token, others.gather(1, taken.clamp(min=0)))


def used(others: Tensor, room: Tensor) -> Tensor:
    """The first tokens of ``others`` (B, P), with −1 for those beyond the ``room`` (B, 1).

    What no place is left for is not in the sequence, so it must not decide on the sequence's split.
    """
    return others.masked_fill(torch.arange(others.shape[1]) >= room, -1)


def other_than(token: Tensor, width: int, tokens: int, generator: torch.Generator) -> Tensor:
    """(B, width) tokens below ``tokens``, uniform among those that differ from ``token`` (B, 1)."""
    drawn = torch.randint(tokens - 1, (token.shape[0], width), generator=generator)
    return drawn + (drawn >= token)
