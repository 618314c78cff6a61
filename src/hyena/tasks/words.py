"""Prompts that a person can read."""

from __future__ import annotations

from collections.abc import Sequence

_SHOWN = 24


def letters(number: int) -> str:
    """a to z for 0 to 25, then aa, ab and so on."""
    name = ""
    while number >= 0:
        name = chr(ord("a") + number % 26) + name
        number = number // 26 - 1
    return name


def shortened(words: Sequence[str], shown: int = _SHOWN) -> list[str]:
    """The words, with "…" for those in the middle where there are more than twice ``shown``."""
    if len(words) <= 2 * shown:
        return list(words)
    return [*words[:shown], "…", *words[-shown:]]


def question(prompt: Sequence[str], answers: Sequence[str]) -> str:
    """A prompt and its answers behind an arrow, both shortened."""
    return f"{' '.join(shortened(prompt))} → {' '.join(shortened(answers))}"
