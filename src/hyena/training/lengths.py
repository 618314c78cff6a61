"""The lengths that a run goes through: some steps at each, of as many tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate


@dataclass
class LengthConfig:
    """Steps with windows of one length."""

    length: int
    """Tokens in a window."""
    steps: int
    """Number of optimizer steps."""


@dataclass(frozen=True)
class Stage:
    """The part of a run with windows of one length.

    Attributes:
        first: steps before it.
        length: tokens in a window.
        batch: windows in a step.
    """

    first: int
    length: int
    batch: int


def stages_of(lengths: Sequence[LengthConfig], batch: int) -> list[Stage]:
    """The stages of a run, the last of which goes on for as long as the run does.

    Args:
        lengths: one or more.
        batch: windows in a step of the first. A step has as many tokens in all of them.
    """
    tokens = batch * lengths[0].length
    before = accumulate((part.steps for part in lengths), initial=0)
    return [
        Stage(first, part.length, tokens // part.length)
        for first, part in zip(before, lengths, strict=False)  # the end begins none
    ]
