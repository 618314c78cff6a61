"""What ends a sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import index
from typing import Literal

from hyena.generation.prompts import Tokenizer
from hyena.generation.text_stream import TextStream


@dataclass(frozen=True)
class Ending:
    """A number of tokens, tokens and texts that end a sequence."""

    max_new_tokens: int
    stops: tuple[str, ...]
    stop_tokens: frozenset[int]
    tokenizer: Tokenizer | None

    @classmethod
    def of(
        cls,
        max_new_tokens: int,
        stop: str | Sequence[str],
        stop_tokens: Sequence[int],
        tokenizer: Tokenizer | None,
        vocab_size: int,
    ) -> Ending:
        """From the arguments of `hyena.generation.generate`.

        Raises: ValueError if one is out of range, or on a stop string without a tokenizer.
        """
        stops = (stop,) if isinstance(stop, str) else tuple(stop)
        if max_new_tokens < 1:
            raise ValueError(f"max_new_tokens: expected at least 1, got {max_new_tokens}")
        if stops and tokenizer is None:
            raise ValueError("stop= speaks of text: give the tokenizer too")
        if "" in stops:
            raise ValueError("stop: expected a text, got an empty one; leave it out for none")
        tokens = frozenset(index(token) for token in stop_tokens)
        for token in tokens:
            if not 0 <= token < vocab_size:
                raise ValueError(
                    f"stop_tokens: token id {token} is outside the vocabulary of {vocab_size}"
                )
        return cls(max_new_tokens, stops, tokens, tokenizer)

    def by_token(self, token: int) -> Literal["end of text", "stop"] | None:
        """How the token ends a sequence, if it does."""
        if self.tokenizer is not None and token == self.tokenizer.end_of_text:
            return "end of text"
        return "stop" if token in self.stop_tokens else None

    def last_tokens(self) -> set[int]:
        """All tokens that end a sequence."""
        end = set() if self.tokenizer is None else {self.tokenizer.end_of_text}
        return end | self.stop_tokens

    def text_stream(self) -> TextStream | None:
        """What turns the tokens of one sequence into text; None without a tokenizer."""
        return None if self.tokenizer is None else TextStream(self.tokenizer, self.stops)
