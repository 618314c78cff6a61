"""States after the beginnings of prompts, so that a prompt which begins alike is not read again."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hyena.generation.state import ModelState

SHORTEST = 256
"""Tokens of a beginning that is worth keeping; fewer are read in a moment."""
LONG = 4096
"""Tokens of a prompt that is kept as a whole, though nobody has begun with it yet."""
ROOM = 2048
"""Tokens that may follow a beginning beyond those of the request it was kept from."""
_REMEMBERED = 1 << 20  # tokens of prompts whose beginnings are compared with new ones

Tokens = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Prefix:
    """What the model made of the first tokens of a prompt."""

    tokens: Tokens
    """(n,)."""
    state: ModelState
    """After them; to be copied before it is advanced."""
    logits: Tensor
    """(V,), of the token after them."""
    planned: int
    """Tokens that the state has room for, these n included."""

    @property
    def nbytes(self) -> int:
        """Of the state."""
        return sum(x.nbytes for layer in self.state.layers for x in layer.tensors().values())


class Prefixes:
    """What is kept of prompts that were read, those used last.

    Kept is the beginning that two prompts share, once the second one has been read, and a long
    prompt as a whole.

    Args: most_bytes: of all states together; 0 keeps none.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._kept: list[Prefix] = []  # in the order of their last use
        self._prompts: deque[Tokens] = deque()
        self._remembered = 0

    def longest(self, prompt: Sequence[int], planned: int) -> Prefix | None:
        """The longest one that the prompt begins with, and that has room for so many tokens."""
        tokens = np.asarray(prompt, np.int64)
        fit = [
            each
            for each in self._kept
            if each.planned >= planned and _shared(each.tokens, tokens) == len(each.tokens)
        ]
        if not fit:
            return None
        found = max(fit, key=lambda each: len(each.tokens))
        self._kept.remove(found)
        self._kept.append(found)
        return found

    def cuts(self, prompt: Sequence[int]) -> list[int]:
        """After how many tokens of a prompt that is going to be read its state should be kept."""
        if not self._most_bytes:
            return []
        tokens = np.asarray(prompt, np.int64)
        shared = max((_shared(each, tokens) for each in self._prompts), default=0)
        self._prompts.append(tokens)
        self._remembered += len(tokens)
        while self._remembered > _REMEMBERED and len(self._prompts) > 1:
            self._remembered -= len(self._prompts.popleft())
        found = {shared} if shared >= SHORTEST else set()
        return sorted(found | ({len(tokens)} if len(tokens) >= LONG else set()))

    def keep(self, prefix: Prefix) -> None:
        """In place of those that were used longest ago; not at all if it alone takes too much."""
        if prefix.nbytes > self._most_bytes:
            return
        same = [each for each in self._kept if np.array_equal(each.tokens, prefix.tokens)]
        for each in same:
            self._kept.remove(each)
        self._kept.append(prefix)
        while sum(each.nbytes for each in self._kept) > self._most_bytes:
            del self._kept[0]


def _shared(one: Tokens, other: Tokens) -> int:
    """How many tokens both begin with."""
    n = min(len(one), len(other))
    differ = one[:n] != other[:n]
    return int(differ.argmax()) if differ.any() else n
