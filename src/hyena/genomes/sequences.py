"""Sequences one after the other: `read_sequences`."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from . import fastq, parts
from .nucleotides import SPACE
from .unpacked import Unpacked

OnError = Callable[[ValueError], None]
"""Gets the error of a record or line that is left out."""


class Record(NamedTuple):
    """A sequence.

    Attributes:
        name: the header up to its first white space; empty if there is none.
        description: the rest of the header.
        sequence: nucleotides in their own case: lower case often marks repeats.
        line: line of the header, from 1.
    """

    name: str
    description: str
    sequence: bytes
    line: int


def read_sequences(path: str | Path, *, on_error: OnError | None = None) -> Iterator[Record]:
    """The records of a FASTA or FASTQ file, in its order, one whole record in memory at a time.

    The first sign, ">" or "@", tells them apart. The file may be plain, gzip or bgzip, and end its
    lines in any way. White space within lines, and blank lines, are no part of a sequence. Records
    without a sequence, and those that have the name of another one, are kept.

    Args:
        path: the file.
        on_error: gets the error of a record with letters that are no nucleotides, which is then
            left out; without it the error is raised.

    Raises: FileNotFoundError; ValueError, naming file and line, if the file is empty, damaged, or
        neither FASTA nor FASTQ, and on a letter that is no nucleotide.
    """
    file = Unpacked(path)
    first = next(file.blocks(), b"").lstrip(b"\xef\xbb\xbf" + SPACE)
    found = _fastq(file, on_error) if first.startswith(b"@") else _fasta(file, on_error)
    none = True
    for record in found:
        none = False
        if record is not None:
            yield record
    if none:
        raise ValueError(f"{file.shown} has no record: expected lines that begin with '>' or '@'")


def _fasta(file: Unpacked, on_error: OnError | None) -> Iterator[Record | None]:
    """The records of FASTA; None for each that is left out."""
    found: list[bytes] = []
    bad = False
    for part in parts.fasta_parts(file.blocks(), file.shown):
        if not bad:
            try:
                found.append(parts.nucleotides(part, file.shown))
            except ValueError as error:
                if on_error is None:
                    raise
                on_error(error)
                bad = True
        if not part.more:
            sequence = b"".join(found)
            yield None if bad else Record(part.name, part.description, sequence, part.line)
            found, bad = [], False


def _fastq(file: Unpacked, on_error: OnError | None) -> Iterator[Record | None]:
    """The records of FASTQ; None for each that is left out."""
    for read in fastq.fastq_reads(file.blocks(), file.shown):
        try:
            sequence = fastq.nucleotides(read, file.shown)
        except ValueError as error:
            if on_error is None:
                raise
            on_error(error)
            yield None
        else:
            yield Record(read.name, read.description, sequence, read.line)
