"""Where tokens stand in a sequence: keys and values in turn, one token at some of the places.

Sizes: B batch, L length, P pairs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hyena.tasks.splits import DECIDING, Split, draw_split


def interleaved(keys: Tensor, values: Tensor) -> Tensor:
    """key, value, key, value, …: (B, 2·P) from (B, P) each."""
    return torch.stack([keys, values], dim=2).flatten(1)


def draw_repeated(
    count: int,
    generator: torch.Generator,
    split: Split,
    *,
    tokens: int,
    length: int,
    numbers: tuple[int, int],
    task: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Draws a token, how often it occurs, and other tokens for the rest of a sequence.

    The token is uniform among ``tokens``, the number of its occurrences in ``numbers``, both ends
    included, and the others are uniform among the other tokens, with replacement. The token, the
    number and the first 64 of the others decide on the split.

    Returns: token (B, 1); number (B, 1); others (B, length − the least number).
    Raises: ValueError as `draw_split`.
    """
    least, most = numbers
    room = length - least
    first = min(room, DECIDING)

    def other_than(token: Tensor, width: int) -> Tensor:
        drawn = torch.randint(tokens - 1, (len(token), width), generator=generator)
        return drawn + (drawn >= token)

    def candidates(rows: int) -> tuple[Tensor, ...]:
        token = torch.randint(tokens, (rows, 1), generator=generator)
        number = torch.randint(least, most + 1, (rows, 1), generator=generator)
        others = other_than(token, first)
        # What no place is left for is not in the sequence, so it must not decide on its split.
        used = others.masked_fill(torch.arange(first) >= length - number, -1)
        return torch.cat([token, number, used], dim=1), token, number, others

    token, number, others = draw_split(candidates, count, split, task)
    return token, number, torch.cat([others, other_than(token, room - first)], dim=1)


def placed(token: Tensor, here: Tensor, others: Tensor) -> Tensor:
    """``token`` (B, 1) where ``here`` (B, L) is true, elsewhere ``others`` (B, ≤ L) in their order.

    A row uses as many of its others as it has places for them; there must be enough.
    """
    taken = (~here).cumsum(1) - 1  # which of the others stands here
    return torch.where(here, token, others.gather(1, taken.clamp(min=0)))
