"""A FASTA file of which any part can be had: `Fasta`."""

from array import array
from bisect import bisect_right
from pathlib import Path
from typing import NamedTuple

from hyena.arguments import check_whole

from .nucleotides import SPACE
from .parts import fasta_parts, nucleotides
from .unpacked import Unpacked


class _Entry(NamedTuple):
    """Where a record is: its first and last mark, its length in bases, and its line."""

    first: int
    last: int
    length: int
    line: int


class Fasta:
    """The records of a FASTA file, of which any part can be had.

    The file may be plain, gzip or bgzip, with lines of any and changing lengths, white space and
    blank lines. It is read once at the beginning. Memory holds some bytes for each 64 KiB of it
    and the names of its records, and 50 KB for each 4 MiB if it is gzip but not bgzip. An index
    beside the file is neither read nor written.

    Attributes:
        path: the file.
        names: of the records, in the order of the file.

    Raises: FileNotFoundError; ValueError, naming file and line, if the file is empty, damaged or
        no FASTA, and on a letter that is no nucleotide.
    """

    def __init__(self, path: str | Path) -> None:
        self._file = Unpacked(path)
        self.path = self._file.path
        self._entries: dict[str, _Entry] = {}
        self._again: dict[str, int] = {}  # names that another record has too, and its line
        # The marks of all records, one after the other.
        self._bases = array("q")  # bases of the record before the mark
        self._places = array("q")  # bytes of the file before it
        first = length = 0
        for part in fasta_parts(self._file.blocks(), self._file.shown):
            self._bases.append(length)
            self._places.append(part.place)
            length += len(nucleotides(part, self._file.shown))
            if part.more:
                continue
            entry = _Entry(first, len(self._bases), length, part.line)
            if self._entries.setdefault(part.name, entry) is not entry:
                self._again.setdefault(part.name, part.line)
            first, length = len(self._bases), 0
        if not self._entries:
            raise ValueError(f"{self._file.shown} has no record: expected lines that begin with >")
        self.names = tuple(self._entries)

    def length(self, name: str) -> int:
        """Bases of a record. Raises: ValueError if no record has the name, or several have it."""
        return self._entry(name).length

    def fetch(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        """The bases of a record from ``start`` to before ``end``, counted from 0, in their own
        case; without ``end`` to the last one.

        Raises: ValueError, naming file and record, as `length`, if the record has no such bases,
            or if the file has been written in the meantime.
        """
        entry = self._entry(name)
        start = check_whole("Fasta.fetch: start", start, None, None)
        end = entry.length if end is None else check_whole("Fasta.fetch: end", end, None, None)
        if not 0 <= start <= end <= entry.length:
            raise ValueError(
                f"{self._file.shown} record {name!r:.60} has {entry.length:,} bases, but "
                f"{start:,} to {end:,} were asked for; expected 0 <= start <= end <= its length"
            )
        if start == end:
            return b""
        mark = bisect_right(self._bases, start, entry.first, entry.last) - 1
        at = self._bases[mark]  # of the bases
        found: list[bytes] = []
        for block in self._file.blocks(self._places[mark]):
            bases = block.translate(None, SPACE)
            found.append(bases[max(start - at, 0) : end - at])
            at += len(bases)
            if at >= end:
                break
        return b"".join(found)

    def _entry(self, name: str) -> _Entry:
        entry = self._entries.get(name)
        if entry is None:
            some = ", ".join(f"{one!r:.60}" for one in self.names[:5])
            raise ValueError(
                f"{self._file.shown} has no record {name!r:.60}; it has {some}"
                f"{', ...' if len(self.names) > 5 else ''}: is it of another genome, or are its "
                "records named in another way?"
            )
        if name in self._again:
            raise ValueError(
                f"{self._file.shown} has several records {name!r:.60}, in lines {entry.line} and "
                f"{self._again[name]}; give each a name of its own"
            )
        return entry
