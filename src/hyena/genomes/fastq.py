"""The records of FASTQ."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .nucleotides import NUCLEOTIDES
from .parts import named, no_nucleotide
from .unpacked import lines


class Read(NamedTuple):
    """A record of FASTQ; its qualities are passed over.

    Attributes:
        name: the header up to its first white space.
        description: the rest of the header.
        line: line of the header, from 1.
        lines: those of the sequence, which follow it.
        sequence: without white space; what stands in it is not checked.
    """

    name: str
    description: str
    line: int
    lines: list[bytes]
    sequence: bytes


def fastq_reads(blocks: Iterable[bytes], shown: str) -> Iterator[Read]:
    """The records of FASTQ that comes in blocks. Sequence and qualities may take several lines;
    the qualities, in which any sign may begin a line, end when there is one for each letter.

    Args: shown: name of the file for messages.
    Raises: ValueError, naming the line, if it is no FASTQ or ends within a record.
    """
    numbered = enumerate(lines(blocks), start=1)
    for number, header in numbered:
        if not header.strip():
            continue
        where = f"{shown} line {number}"
        if not header.startswith(b"@"):
            text = header.decode(errors="replace")
            raise ValueError(
                f"{where} is no FASTQ: a record begins with '@', and has as many qualities as "
                f"letters; got {text!r:.40}"
            )
        name, description = named(header[1:])
        found = []
        for _, line in numbered:
            if line.startswith(b"+"):
                break
            found.append(line)
        else:
            raise ValueError(f"{where}: the file ends within the record {name!r:.60}")
        sequence = b"".join(b"".join(found).split())
        qualities = 0
        while qualities < len(sequence):
            _, quality = next(numbered, (0, None))
            if quality is None:
                raise ValueError(f"{where}: the file ends within the record {name!r:.60}")
            qualities += len(quality.strip())
        if qualities > len(sequence):
            raise ValueError(
                f"{where}: the record {name!r:.60} has {len(sequence):,} letters, but "
                f"{qualities:,} qualities or more; expected one for each"
            )
        yield Read(name, description, number, found, sequence)


def nucleotides(read: Read, shown: str) -> bytes:
    """The sequence of a record, in its own case.

    Raises: ValueError, naming record and line, on a letter that is none of a nucleic acid.
    """
    if read.sequence.translate(None, NUCLEOTIDES):
        for number, line in enumerate(read.lines, start=read.line + 1):
            if other := b"".join(line.split()).translate(None, NUCLEOTIDES):
                raise no_nucleotide(other[0], f"{shown} line {number}", read.name)
    return read.sequence
