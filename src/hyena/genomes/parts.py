"""The records of FASTA in parts: a chromosome may be of any length, and may stand in one line."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .nucleotides import NUCLEOTIDES, OTHER, SPACE, shown_byte
from .unpacked import BYTE_ORDER_MARK


class Part(NamedTuple):
    """A part of a record.

    Attributes:
        name: the header up to its first white space.
        description: the rest of the header.
        line: line of the header, from 1.
        place: bytes of the text before this part.
        at_line: the line in which this part begins.
        raw: this part of the text, with its white space; it may be empty.
        more: whether another part of the same record comes next.
    """

    name: str
    description: str
    line: int
    place: int
    at_line: int
    raw: bytes
    more: bool


class _Line:
    """The number of the line that a text has come to, whatever ends its lines."""

    def __init__(self, number: int = 1) -> None:
        self.number = number
        self._returned = False  # whether a line ended in a carriage return just before

    def before(self, text: bytes) -> int:
        """Where to count from in what comes next in the text, if it is looked at on its own."""
        return self.number - (self._returned and text.startswith(b"\n"))

    def go_on(self, text: bytes) -> int:
        """Passes over what comes next in the text."""
        if text:
            self.number = self.before(text) + text.count(b"\n")
            if b"\r" in text:
                self.number += text.count(b"\r") - text.count(b"\r\n")
            self._returned = text.endswith(b"\r")
        return self.number


def fasta_parts(blocks: Iterable[bytes], shown: str) -> Iterator[Part]:
    """The records of FASTA that comes in blocks. What stands in a sequence is not checked.

    Args: shown: name of the file for messages.
    Raises: ValueError if there is a sequence before the first header.
    """
    line, begins = _Line(), True  # whether a line begins where reading goes on
    record: Part | None = None  # the one that goes on
    header: list[bytes] | None = None  # the parts of a header that goes on
    place = 0  # of the block
    for block in blocks:
        at = 0 if place or not block.startswith(BYTE_ORDER_MARK) else len(BYTE_ORDER_MARK)
        while at < len(block):
            if header is not None:
                end = _end_of_line(block, at)
                header.append(block[at:end])
                if end < len(block):
                    record = _record(header, line.number)
                    header = None
                begins, at = False, end
                continue
            end = _header(block, at, begins)
            raw = block[at:end]
            if record is not None:
                yield record._replace(
                    place=place + at, at_line=line.before(raw), raw=raw, more=end == len(block)
                )
            elif raw.strip(SPACE):
                raise _no_fasta(raw, line, shown)
            line.go_on(raw)
            begins, at = raw.endswith((b"\n", b"\r")), end
            if end < len(block):
                record, header, at = None, [], end + 1
        place += len(block)
    if header is not None:
        record = _record(header, line.number)
    if record is not None:
        yield record._replace(place=place, at_line=line.number, more=False)


def letters(part: Part) -> bytes:
    """What stands in a part of UTF-8 text that is cut between characters, but for white space."""
    if part.raw.isascii():
        return part.raw.translate(None, SPACE)
    return "".join(part.raw.decode().split()).encode()


def nucleotides(part: Part, shown: str) -> bytes:
    """The sequence of a part, in its own case.

    Raises: ValueError, naming record and line, on a letter that is none of a nucleic acid.
    """
    # The two ends of lines first, which stand far apart: that is some times as fast.
    sequence = part.raw.replace(b"\n", b"").replace(b"\r", b"")
    if not sequence.translate(None, NUCLEOTIDES):
        return sequence
    sequence = sequence.translate(None, SPACE)
    if sequence.translate(None, NUCLEOTIDES):
        found = OTHER.search(part.raw)
        assert found is not None
        line = _Line(part.at_line).go_on(part.raw[: found.start()])
        raise no_nucleotide(found[0][0], f"{shown} line {line}", part.name)
    return sequence


def no_nucleotide(byte: int, where: str, name: str) -> ValueError:
    """The error of a byte in the sequence of a record."""
    return ValueError(
        f"{where}: {shown_byte(byte)} in the sequence of {name!r:.60} is no nucleotide; expected "
        "A, C, G, T, U, N and IUPAC's other codes, no protein and no alignment"
    )


def _record(header: list[bytes], line: int) -> Part:
    name, description = named(b"".join(header))
    return Part(name, description, line, 0, line, b"", True)


def named(header: bytes) -> tuple[str, str]:
    """The name and the description in a header, without its sign."""
    text = header.decode(errors="replace").strip()
    name = next(iter(text.split(maxsplit=1)), "")
    return name, text[len(name) :].strip()


def _end_of_line(block: bytes, at: int) -> int:
    """Where the line that goes on at a place of a block ends, or the block does."""
    end = block.find(b"\n", at)
    end = len(block) if end < 0 else end
    returned = block.find(b"\r", at, end)
    return end if returned < 0 else returned


def _header(block: bytes, at: int, begins: bool) -> int:
    """Where the next header in a block begins, or the block ends."""
    found = block.find(b">", at)
    while found >= 0:
        if begins if found == at else block[found - 1] in b"\n\r":
            return found
        found = block.find(b">", found + 1)
    return len(block)


def _no_fasta(raw: bytes, line: _Line, shown: str) -> ValueError:
    text = raw.lstrip(SPACE)
    number = line.go_on(raw[: len(raw) - len(text)])
    first = text[: _end_of_line(text, 0)].decode(errors="replace")
    return ValueError(
        f"{shown} line {number} is no FASTA: a record begins with '>', got {first!r:.40}"
    )
