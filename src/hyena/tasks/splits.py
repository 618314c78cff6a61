"""Training and test prompts that never coincide, however many are drawn.

A hash of a part of the prompt says to which split the prompt belongs. Prompts are drawn until
enough of the wanted split are there. Equal prompts have equal parts, so no prompt is in both
splits, and nothing that was drawn needs to be remembered. The part is drawn first and is short, so
that rejecting it costs little even when prompts are a million tokens long.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from hyena.arguments import check_whole, shown

Split = Literal["train", "test"]

TEST_SHARE = 0.1
"""Share of the prompts, as they are drawn, that belong to the test split."""
DECIDING = 64
"""How many tokens of a long prompt decide on its split."""

# A split that appears less often than once in so many prompts is taken to be empty.
_RAREST = 10_000


def in_test(deciding: Tensor) -> Tensor:
    """Whether prompts belong to the test split, (B,) bool, by their deciding parts (B, P) int64.

    The parts are weighted by pseudorandom odd numbers, summed and mixed, all modulo 2^64. A pure
    function, the same on every machine and in every release.
    """
    places = torch.arange(1, deciding.shape[1] + 1)
    weights = _mix(places) | 1
    mixed = _mix((deciding * weights).sum(dim=1))
    return (mixed & (2**53 - 1)).double() < TEST_SHARE * 2**53


def draw_split(
    candidates: Callable[[int], tuple[Tensor, ...]], count: int, split: Split, task: str
) -> tuple[Tensor, ...]:
    """Draws the beginnings of ``count`` prompts of a split by rejection.

    Args:
        candidates: draws n rows: first their deciding parts (n, P) int64, each a function of the
            finished prompt, then anything that the task needs to finish them, (n, …) each.
        count: rows that are wanted.
        split: "train" or "test".
        task: its name, for messages.

    Returns: what candidates gave after the deciding parts, ``count`` rows of each.
    Raises: ValueError for a bad count or split, or when the split seems to have no prompts.
    """
    if not isinstance(split, str) or split not in get_args(Split):
        raise ValueError(f"{task}: split: expected train or test, got {shown(split)}")
    count = check_whole(f"{task}: count", count)
    share = TEST_SHARE if split == "test" else 1 - TEST_SHARE
    kept: list[tuple[Tensor, ...]] = []
    drawn = found = 0
    while found < count:
        rows = 8 + math.ceil(1.1 * (count - found) / share)  # mostly one round is enough
        deciding, *parts = candidates(rows)
        wanted = in_test(deciding) == (split == "test")
        kept.append(tuple(part[wanted] for part in parts))
        drawn += rows
        found += int(wanted.sum())
        if drawn > _RAREST * (found + 1):
            raise ValueError(
                f"{task}: there are too few different prompts of this size to split them: {drawn} "
                f"were drawn and {found} of them are for the {split} split; make the prompts "
                f"longer or the vocabulary larger"
            )
    return tuple(torch.cat(part)[:count] for part in zip(*kept, strict=True))


def _mix(x: Tensor) -> Tensor:
    # The output function of SplitMix64 (Steele, Lea and Flood 2014, doi:10.1145/2660193.2660195).
    # Products of int64 wrap around, which is arithmetic modulo 2^64.
    x = (x ^ _shifted(x, 30)) * (0xBF58476D1CE4E5B9 - 2**64)
    x = (x ^ _shifted(x, 27)) * (0x94D049BB133111EB - 2**64)
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    return (x >> bits) & (2 ** (64 - bits) - 1)  # PyTorch's shift repeats the sign
