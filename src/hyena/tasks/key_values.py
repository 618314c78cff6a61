"""Key-value pairs with one map a sequence, and a key that occurred: what associative recall asks.

Sizes: B batch, P pairs, K keys.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hyena.tasks.splits import DECIDING, Split, draw_split


class KeyValues(NamedTuple):
    """Keys are numbered from 0, values go on after the last key."""

    pairs: Tensor
    """key, value, key, value, …: (B, 2 · P) int64."""
    asked: Tensor
    """A key that occurs in the pairs, (B, 1) int64."""
    value: Tensor
    """Its value, (B, 1) int64."""


def draw_key_values(
    count: int,
    generator: torch.Generator,
    split: Split,
    *,
    pairs: int,
    keys: int,
    values: int,
    most_keys: int | None,
    alphabet: int | None,
    task: str,
) -> KeyValues:
    """Draws ``count`` sequences of one split.

    Each has its own map: every key gets a value, uniformly and with replacement. The keys of the
    pairs are uniform and with replacement as well; the key asked for is uniform among those that
    occur. The first pairs decide on the split.

    With ``most_keys`` a sequence has keys of a set of its own only, of 2 … most_keys of them, any
    number and any set equally likely. With ``alphabet`` only so many keys, the first ones, and as
    many values occur in all sequences. Both are easier: there is less to keep apart.

    Raises: ValueError as `draw_split`.
    """
    first = min(pairs, DECIDING // 2)
    used = keys if alphabet is None else alphabet
    used_values = values if alphabet is None else min(alphabet, values)

    def of_sets(sets: Tensor, sizes: Tensor, number: int) -> Tensor:
        """Keys of each row's set, uniform: (rows, number)."""
        which = torch.rand(len(sets), number, dtype=torch.float64, generator=generator) * sizes
        return sets.gather(1, which.long())

    def candidates(rows: int) -> tuple[Tensor, ...]:
        maps = keys + torch.randint(used_values, (rows, used), generator=generator)
        if most_keys is None:
            drawn = torch.randint(used, (rows, first), generator=generator)
            return interleaved(drawn, maps.gather(1, drawn)), maps, drawn
        sets = torch.rand(rows, used, generator=generator).argsort(dim=1)
        sizes = torch.randint(2, most_keys + 1, (rows, 1), generator=generator)
        drawn = of_sets(sets, sizes, first)
        return interleaved(drawn, maps.gather(1, drawn)), maps, drawn, sets, sizes

    maps, drawn, *own = draw_split(candidates, count, split, task)
    if own:
        rest = of_sets(own[0], own[1], pairs - first)
    else:
        rest = torch.randint(used, (count, pairs - first), generator=generator)
    drawn = torch.cat([drawn, rest], dim=1)  # (B, P)
    occurs = torch.zeros(count, used).scatter_(1, drawn, 1.0)
    asked = torch.multinomial(occurs, 1, generator=generator)
    return KeyValues(interleaved(drawn, maps.gather(1, drawn)), asked, maps.gather(1, asked))


def check_few_keys(task: str, keys: int, most_keys: int | None, alphabet: int | None) -> None:
    """Raises ValueError unless each is None or in 2 … keys, and most_keys within the alphabet."""
    for name, value in (("most_keys", most_keys), ("alphabet", alphabet)):
        if value is not None and not 2 <= value <= keys:
            raise ValueError(
                f"{task}: {name}: expected 2 to {keys}, since the vocabulary has {keys} keys, got "
                f"{value}"
            )
    if most_keys is not None and alphabet is not None and most_keys > alphabet:
        raise ValueError(
            f"{task}: most_keys: expected at most the {alphabet} keys of the alphabet, got "
            f"{most_keys}"
        )


def interleaved(keys: Tensor, values: Tensor) -> Tensor:
    """key, value, key, value, …: (B, 2 · P) from (B, P) each."""
    return torch.stack([keys, values], dim=2).flatten(1)
