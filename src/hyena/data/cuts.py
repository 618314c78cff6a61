"""Where a separator cuts a file of text, found from any place on."""

from __future__ import annotations

import re
from pathlib import Path

from . import pieces


class Cuts:
    """The places of a separator in the bytes of a file.

    They are those that are found when the whole file is read from its beginning: a separator that
    another one could overlap from before, as in a run of empty lines, is passed over, since which
    of the two counts depends on what comes before them.

    Args: separator: the text; a line end matches those of Windows as well.
    """

    def __init__(self, separator: str) -> None:
        lines = separator.encode().split(b"\n")
        self._pattern = re.compile(b"\r?\n".join(map(re.escape, lines)))
        self._longest = len(separator.encode()) + len(lines) - 1

    def find(self, file: Path, place: int) -> tuple[int, int] | None:
        """Where the first one that begins at a byte or after it begins and ends; None if there is
        none."""
        longest = self._longest
        with file.open("rb") as stream:
            first = max(place - longest, 0)  # of the data; an overlap begins no earlier
            stream.seek(first)
            data = b""
            while True:
                block = stream.read(pieces.BLOCK)
                data += block
                # A match that begins in the last bytes may need some of the next block.
                decided = len(data) - longest + 1 if block else len(data)
                at = place - first
                while (match := self._pattern.search(data, at)) and match.start() < decided:
                    if not self._overlapped(data, match.start()):
                        return first + match.start(), first + match.end()
                    at = match.start() + 1
                if not block:
                    return None
                place = first + max(decided, at)
                gone = max(place - first - longest, 0)
                data, first = data[gone:], first + gone

    def _overlapped(self, data: bytes, place: int) -> bool:
        """Whether a separator that begins before a place ends after it."""
        begin = max(place - self._longest + 1, 0)
        found = (self._pattern.match(data, start) for start in range(begin, place))
        return any(match.end() > place for match in found if match)
