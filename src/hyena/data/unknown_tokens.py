"""What is said of letters that a tokenizer does not know."""

from typing import Any

from numpy.typing import NDArray


class UnknownTokens:
    """Counts the tokens that stand for letters which the tokenizer does not know."""

    def __init__(self) -> None:
        self._tokens = self._unknown = 0
        self._first = ""

    def add(self, name: str, text: str, tokens: NDArray[Any], unknown: int) -> None:
        """The tokens of a text.

        Args: the text's name, the text, its tokens (n,), and the id of the one for unknown letters.
        """
        there = tokens == unknown
        count = int(there.sum())
        if count and not self._unknown:
            # With a token for each letter, as of DNA, it can be told which one it was.
            letter = f"{text[int(there.argmax())]!r} " if len(text) == len(tokens) else ""
            self._first = f"{letter}in {name}"
        self._tokens, self._unknown = self._tokens + len(tokens), self._unknown + count

    def notes(self) -> list[str]:
        """How many there were, in a line; none if there were none."""
        if not self._unknown:
            return []
        return [
            f"{self._unknown:,} of {self._tokens:,} tokens are the one for unknown letters, the "
            f"first {self._first}"
        ]
