"""What ends a sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hyena.data.arguments import several, shown, token_ids, whole_number
from hyena.data.tokenizer import Tokenizer
from hyena.generation.prompts import check_tokenizer
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
        stop_tokens: int | Sequence[int],
        tokenizer: Tokenizer | None,
        vocab_size: int,
    ) -> Ending:
        """From the arguments of `hyena.generation.generate`.

        Raises: ValueError if one is of another kind or out of range, or on a stop string without a
            tokenizer.
        """
        check_tokenizer(tokenizer)
        stops = tuple(several(stop))
        for text in stops:
            if not isinstance(text, str):
                raise ValueError(f"stop: expected a text or several, got {shown(text)}")
        max_new_tokens = whole_number("max_new_tokens", max_new_tokens)
        if max_new_tokens < 1:
            raise ValueError(f"max_new_tokens: expected at least 1, got {max_new_tokens}")
        if stops and tokenizer is None:
            raise ValueError("stop= speaks of text: give the tokenizer too")
        if "" in stops:
            raise ValueError("stop: expected a text, got an empty one; leave it out for none")
        tokens = token_ids(
            "stop_tokens", several(stop_tokens), vocab_size, "; for a text, use stop="
        )
        return cls(max_new_tokens, stops, frozenset(tokens), tokenizer)

    def by_token(self, token: int) -> Literal["end of text", "stop"] | None:
        """How the token ends a sequence, if it does."""
        if self.tokenizer is not None and token == self.tokenizer.end_of_text:
            return "end of text"
        return "stop" if token in self.stop_tokens else None

    def last_tokens(self) -> set[int]:
        """All tokens that end a sequence."""
        end = set() if self.tokenizer is None else {self.tokenizer.end_of_text}
        return end | self.stop_tokens

    def text_stream(self, before: Sequence[int]) -> TextStream | None:
        """What turns the tokens after others into text; None without a tokenizer."""
        return None if self.tokenizer is None else TextStream(self.tokenizer, self.stops, before)
