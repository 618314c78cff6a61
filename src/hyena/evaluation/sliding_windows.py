"""Windows over a long document in which each target is scored once, with context before it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from hyena.ops.arguments import check_whole


class Window(NamedTuple):
    """One window of a document; positions count inputs, and target i follows input i.

    Attributes:
        start: first input.
        score_from: first target that this window scores; those before it are context.
        end: one past the last input.
    """

    start: int
    score_from: int
    end: int


def sliding_windows(targets: int, *, length: int, stride: int) -> Iterator[Window]:
    """Windows of at most ``length`` inputs that together score each of ``targets`` targets once.

    The first window scores all its targets. Each next one starts ``stride`` later and scores the
    targets that are new, its last ``stride`` (the very last window: those that are left), so they
    have ``length − stride`` tokens of context or more. ``stride = length`` gives windows that are
    independent of one another.

    Raises: ValueError unless 1 <= stride <= length.
    """
    check_whole("evaluate", "length", length)
    check_whole("evaluate", "stride", stride, None)
    check_whole("evaluate", "targets", targets, 0, 2**63)
    if not 1 <= stride <= length:
        raise ValueError(f"stride: expected 1 to length, got stride={stride}, length={length}")
    scored = 0
    for start in range(0, targets, stride):
        end = min(start + length, targets)
        yield Window(start, scored, end)
        scored = end
        if end == targets:
            return
