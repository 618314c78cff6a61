"""Regions (BED) and variants (VCF): a line each."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

from .nucleotides import NUCLEOTIDES
from .sequences import OnError
from .unpacked import Unpacked, lines

_ALLELE = re.compile(f"[{NUCLEOTIDES.decode()}]+")

Row = TypeVar("Row")


class Region(NamedTuple):
    """A part of a record.

    Attributes:
        chrom: name of the record.
        start: its first base, counted from 0.
        end: the base behind its last one.
        name: empty if it has none.
        strand: "+", "-", or "." if the table does not say.
        line: its line in the file, from 1.
    """

    chrom: str
    start: int
    end: int
    name: str
    strand: str
    line: int


class Variant(NamedTuple):
    """A difference from the reference.

    Attributes:
        chrom: name of the record.
        position: of the first base of ``ref``, counted from 1.
        id: empty if it has none.
        ref: the bases of the reference, in the case of the file.
        alts: what stands there instead, as in the file: bases, or a sign such as ``<DEL>`` or
            ``*``. Empty if nothing does.
        line: its line in the file, from 1.
    """

    chrom: str
    position: int
    id: str
    ref: str
    alts: tuple[str, ...]
    line: int


def read_bed(path: str | Path, *, on_error: OnError | None = None) -> Iterator[Region]:
    """The regions of a BED file of 3 columns or more, plain, gzip or bgzip, in its order.

    Blank lines, comments and the lines of browsers are passed over. Columns stand between tabs, or
    between spaces in lines without a tab.

    Args:
        path: the file.
        on_error: gets the error of each bad line, which is then left out; without it the first one
            is raised.

    Raises: FileNotFoundError; ValueError, naming file and line, on a bad line, or if the file is
        empty or damaged.
    """
    return _rows(path, _region, on_error)


def read_vcf(path: str | Path, *, on_error: OnError | None = None) -> Iterator[Variant]:
    """The variants of a VCF file, plain, gzip or bgzip, in its order: the first five columns.

    Whether ``ref`` is what the genome has there can only be said beside the genome.

    Args:
        path: the file.
        on_error: as in `read_bed`.

    Raises: as `read_bed`; ValueError on a binary one (BCF) too.
    """
    return _rows(path, _variant, on_error)


def _rows(
    path: str | Path, parsed: Callable[[str, int, str], Row | None], on_error: OnError | None
) -> Iterator[Row]:
    file = Unpacked(path)
    for number, line in enumerate(lines(file.blocks()), start=1):
        if number == 1 and b"\0" in line:
            raise ValueError(
                f"{file.shown} is a binary file; write it as text first, such as with bcftools view"
            )
        if not line.strip() or line.startswith(b"#"):
            continue
        text = line.decode(errors="replace")
        try:
            row = parsed(text, number, f"{file.shown} line {number}")
        except ValueError as error:
            if on_error is None:
                raise
            on_error(error)
            continue
        if row is not None:
            yield row


def _region(text: str, number: int, where: str) -> Region | None:
    cells = [cell.strip() for cell in text.split("\t")] if "\t" in text else text.split()
    if cells[0] in ("track", "browser") or cells[0].startswith(("track ", "browser ")):
        return None
    if len(cells) < 3:
        raise ValueError(
            f"{where}: expected 3 columns or more (chromosome, start, end), got {text!r:.60}"
        )
    start, end = _whole(cells[1], "start", where), _whole(cells[2], "end", where)
    if end < start:
        raise ValueError(f"{where}: the region ends at {end:,}, before its start {start:,}")
    name = cells[3] if len(cells) > 3 and cells[3] != "." else ""
    strand = cells[5] if len(cells) > 5 else "."
    if strand not in ("+", "-", "."):
        raise ValueError(f"{where}: expected a strand of '+', '-' or '.', got {strand!r:.40}")
    return Region(cells[0], start, end, name, strand, number)


def _variant(text: str, number: int, where: str) -> Variant:
    cells = text.split("\t")
    if len(cells) < 5:
        raise ValueError(
            f"{where}: expected 5 columns or more with tabs between them (CHROM, POS, ID, REF, "
            f"ALT), got {text!r:.60}"
        )
    chrom, position, name, ref, alt = (cell.strip() for cell in cells[:5])
    at = _whole(position, "POS", where)
    if at < 1:
        raise ValueError(f"{where}: POS counts from 1, got {at}")
    if not _ALLELE.fullmatch(ref):
        raise ValueError(f"{where}: expected the bases of the reference as REF, got {ref!r:.40}")
    alts = () if alt == "." else tuple(alt.split(","))
    if "" in alts:
        raise ValueError(f"{where}: an allele of ALT is empty: {alt!r:.40}")
    return Variant(chrom, at, "" if name == "." else name, ref, alts, number)


def _whole(text: str, name: str, where: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise ValueError(f"{where}: expected a whole number as {name}, got {text!r:.40}")
    return int(text)
