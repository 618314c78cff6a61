"""Text out of tokens as they come, up to a stop string."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import takewhile

from hyena.data.tokenizer import Tokenizer

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"  # what the beginning of a character decodes to
_MOST = 64  # tokens that are decoded once more, at most


class TextStream:
    """Turns tokens into text piece by piece.

    How a token reads depends on those before it: a blank stands before a word unless it is the
    first, and several tokens may make one character. So each token is decoded together with those
    of the piece before it, and what their text has more is the next piece.

    A character cut in two by tokens is held back until it is whole, and so is whatever may still
    become a stop string. Of several stop strings the one that is complete first counts, and of
    those complete at the same character the longest: where tokens are cut has no say.

    Attributes: ``stopped``, True once a stop string has come.
    """

    def __init__(
        self, tokenizer: Tokenizer, stops: Sequence[str], before: Sequence[int] = ()
    ) -> None:
        self._tokenizer, self._stops = tokenizer, tuple(stops)
        self._context, self._new = list(before[-_MOST:]), list[int]()
        self._told = tokenizer.decode(self._context)  # of the text of both, what has been handed on
        self._held = ""
        self.stopped = False

    def feed(self, token: int) -> str:
        """The text that this token makes certain; empty once stopped."""
        if self.stopped:
            return ""
        self._new = [*self._new, token]
        text = self._tokenizer.decode(self._context + self._new)
        certain = text.removesuffix(_UNFINISHED)
        if piece := self._further(certain):
            self._told = certain
            if certain == text:
                self._context, self._new = self._new, []
                self._told = self._tokenizer.decode(self._context)
        if len(self._new) > _MOST:  # no character is so long: these are none, or without text
            self._new = self._new[-8:]
            self._told = self._tokenizer.decode(self._context + self._new).removesuffix(_UNFINISHED)
        return self._up_to_stop(piece)

    def close(self) -> str:
        """The rest, when no more tokens come."""
        if self.stopped:
            return ""
        text = self._tokenizer.decode(self._context + self._new)
        rest, self._held = self._held + self._further(text), ""
        self._told = text
        return rest

    def copy(self) -> TextStream:
        """A stream at the same place, to try a token with."""
        return copy.copy(self)  # nothing in it is changed in place

    def _further(self, text: str) -> str:
        if text.startswith(self._told):
            return text[len(self._told) :]
        same = takewhile(lambda pair: pair[0] == pair[1], zip(self._told, text, strict=False))
        return text[sum(1 for _ in same) :]

    def _up_to_stop(self, piece: str) -> str:
        """What of the text held back and the piece after it comes before any stop string."""
        self._held += piece
        found = [(at + len(s), at) for s in self._stops if (at := self._held.find(s)) >= 0]
        self.stopped = bool(found)
        end = min(found)[1] if found else len(self._held) - self._possible_start()
        text, self._held = self._held[:end], self._held[end:]
        return text

    def _possible_start(self) -> int:
        """How many of the last characters may be the beginning of a stop string."""
        longest = max(map(len, self._stops), default=1) - 1
        for size in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-size:]) for stop in self._stops):
                return size
        return 0
