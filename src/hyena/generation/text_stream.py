"""Text out of tokens as they come, up to a stop string."""

from __future__ import annotations

import codecs
from typing import Protocol


class Decoder(Protocol):
    """What is needed of a tokenizer."""

    def decode_bytes(self, ids: list[int]) -> bytes: ...


class TextStream:
    """Turns tokens into text piece by piece.

    A character cut in two by tokens is held back until it is whole, and so is whatever may still
    become the stop string. The pieces laid end to end are the text before the stop string.

    Attributes: ``stopped``, True once the stop string has come.
    """

    def __init__(self, tokenizer: Decoder, stop: str | None) -> None:
        self._tokenizer = tokenizer
        self._stop = (stop or "").encode()
        self._held = b""
        self._characters = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.stopped = False

    def feed(self, token: int) -> str:
        """The text that this token makes certain; empty once stopped."""
        if self.stopped:
            return ""
        self._held += self._tokenizer.decode_bytes([token])
        if not self._stop:
            return self._release(len(self._held))
        found = self._held.find(self._stop)
        if found >= 0:
            self.stopped = True
            text = self._release(found) + self._characters.decode(b"", final=True)
            self._held = b""
            return text
        return self._release(len(self._held) - self._possible_start())

    def close(self) -> str:
        """The rest, when no more tokens come."""
        if self.stopped:
            return ""
        return self._release(len(self._held)) + self._characters.decode(b"", final=True)

    def _release(self, count: int) -> str:
        ready, self._held = self._held[:count], self._held[count:]
        return self._characters.decode(ready)

    def _possible_start(self) -> int:
        """How many of the last bytes may be the beginning of the stop string."""
        for size in range(min(len(self._stop) - 1, len(self._held)), 0, -1):
            if self._held.endswith(self._stop[:size]):
                return size
        return 0
