"""Text out of tokens as they come, up to a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Protocol


class Decoder(Protocol):
    """What is needed of a tokenizer."""

    def decode_bytes(self, ids: list[int]) -> bytes: ...


class TextStream:
    """Turns tokens into text piece by piece.

    A character cut in two by tokens is held back until it is whole, and so is whatever may still
    become a stop string. The pieces laid end to end are the text before the stop string. Of
    several stop strings the one that is complete first counts, and of those complete at the same
    byte the longest: where tokens are cut has no say.

    Attributes: ``stopped``, True once a stop string has come.
    """

    def __init__(self, tokenizer: Decoder, stops: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._stops = tuple(stop.encode() for stop in stops)
        self._held = b""
        self._characters = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.stopped = False

    def feed(self, token: int) -> str:
        """The text that this token makes certain; empty once stopped."""
        if self.stopped:
            return ""
        self._held += self._tokenizer.decode_bytes([token])
        found = [(at + len(s), at) for s in self._stops if (at := self._held.find(s)) >= 0]
        if found:
            self.stopped = True
            _, start = min(found)
            text = self._release(start) + self._characters.decode(b"", final=True)
            self._held = b""
            return text
        return self._release(len(self._held) - self._possible_start())

    def close(self) -> str:
        """The rest, when no more tokens come."""
        if self.stopped:
            return ""
        return self._release(len(self._held)) + self._characters.decode(b"", final=True)

    def copy(self) -> TextStream:
        """A stream at the same place, to try a token with."""
        new = TextStream(self._tokenizer, ())
        new._stops, new._held, new.stopped = self._stops, self._held, self.stopped
        new._characters.setstate(self._characters.getstate())
        return new

    def _release(self, count: int) -> str:
        ready, self._held = self._held[:count], self._held[count:]
        return self._characters.decode(ready)

    def _possible_start(self) -> int:
        """How many of the last bytes may be the beginning of a stop string."""
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        for size in range(min(longest, len(self._held)), 0, -1):
            end = self._held[-size:]
            if any(stop.startswith(end) for stop in self._stops):
                return size
        return 0
