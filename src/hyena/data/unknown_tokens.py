"""What is said of letters that a tokenizer does not know."""

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray


@dataclass
class UnknownTokens:
    """Counts the tokens that stand for letters which the tokenizer does not know.

    Attributes:
        tokens: in all.
        unknown: those that stand for such letters.
        first: where the first of them was.
    """

    tokens: int = 0
    unknown: int = 0
    first: str = ""

    def add(self, name: str, text: str, tokens: NDArray[Any], unknown: int) -> None:
        """The tokens of a text.

        Args: the text's name, the text, its tokens (n,), and the id of the one for unknown letters.
        """
        there = tokens == unknown
        count = int(there.sum())
        if count and not self.unknown:
            # With a token for each letter, as of DNA, it can be told which one it was.
            letter = f"{text[int(there.argmax())]!r} " if len(text) == len(tokens) else ""
            self.first = f"{letter}in {name}"
        self.tokens, self.unknown = self.tokens + len(tokens), self.unknown + count

    def merge(self, later: "UnknownTokens") -> None:
        """Adds what was counted in a later part of the text."""
        self.first = self.first or later.first
        self.tokens, self.unknown = self.tokens + later.tokens, self.unknown + later.unknown

    def notes(self) -> list[str]:
        """How many there were, in a line; none if there were none."""
        if not self.unknown:
            return []
        return [
            f"{self.unknown:,} of {self.tokens:,} tokens are the one for unknown letters, the "
            f"first {self.first}"
        ]
