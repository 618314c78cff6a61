"""One prompt's continuation while it grows, and what ends it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from hyena.arguments import check_whole, several, shown, token_ids
from hyena.data.tokenizer import Tokenizer
from hyena.generation.prompts import check_tokenizer
from hyena.generation.results import Event, Finished, Generation, SequenceState
from hyena.generation.sampling import Alternatives
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
        """From the arguments of `hyena.generation.generate`. Raises: ValueError as that."""
        check_tokenizer(tokenizer)
        stops = tuple(several(stop))
        for text in stops:
            if not isinstance(text, str):
                raise ValueError(f"stop: expected a text or several, got {shown(text)}")
        max_new_tokens = check_whole("max_new_tokens", max_new_tokens, 1, None)
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


class Continuation:
    """The tokens and the text after one prompt, whose ids come after those of ``start``.

    Attributes:
        read: tokens before the first new one.
        cancelled: it is to end as soon as possible.
        unread: the newest token, if the model has not been fed with it but is to be.
        logprob: natural logarithm of the probability of all tokens taken, of one that ends it too.
    """

    def __init__(
        self,
        index: int,
        prompt: list[int],
        start: SequenceState | None,
        seed: int,
        ending: Ending,
    ) -> None:
        self.index, self.prompt, self.start = index, prompt, start
        self.read = (*(() if start is None else start.tokens), *prompt)
        self.generator = torch.Generator().manual_seed(seed)
        self.finished: Finished | None = None
        self.cancelled = False
        self.unread: int | None = None
        self.state: SequenceState | None = None
        self.logprob = 0.0
        self.ending = ending
        self._stream = None
        if ending.tokenizer is not None:
            self._stream = TextStream(ending.tokenizer, ending.stops, self.read)
        self._pieces: list[str] = []
        self._taken: list[tuple[int, float, Alternatives]] = []

    @property
    def tokens(self) -> tuple[int, ...]:
        """Those read and those generated."""
        return (*self.read, *(token for token, _, _ in self._taken))

    def take(self, token: int, logprob: float, alternatives: Alternatives) -> Event:
        """The next token, which may end the sequence."""
        self.logprob += logprob
        self.finished = self.ending.by_token(token)
        self.unread = None
        text = ""
        if self.finished is None:
            self.unread = token
            self._taken.append((token, logprob, alternatives))
            if self._stream is not None:
                text = self._stream.feed(token)
            if self._stream is not None and self._stream.stopped:
                self.finished = "stop"
            elif len(self._taken) == self.ending.max_new_tokens:
                self.finished = "length"
        if self.finished is not None:
            text += self._rest_of_text()
        self._pieces.append(text)
        return Event(self.index, token, text, logprob, alternatives, self.finished)

    def cancel(self) -> Event:
        """The end of the sequence, without a token."""
        self.finished, self.unread = "cancelled", None
        text = self._rest_of_text()
        self._pieces.append(text)
        return Event(self.index, None, text, None, [], self.finished)

    def generation(self) -> Generation:
        """What there is of it."""
        return Generation(
            [token for token, _, _ in self._taken],
            None if self._stream is None else "".join(self._pieces),
            self.finished,
            [logprob for _, logprob, _ in self._taken],
            [alternatives for _, _, alternatives in self._taken],
            self.state,
        )

    def copy(self) -> Continuation:
        """The same, to go on with in another way; only the random numbers are shared."""
        other = copy.copy(self)
        other._stream = None if self._stream is None else self._stream.copy()
        other._pieces, other._taken = [*self._pieces], [*self._taken]
        return other

    def _rest_of_text(self) -> str:
        return "" if self._stream is None else self._stream.close()
