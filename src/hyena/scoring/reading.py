"""Sequences in files: texts with one in each line, rows, FASTA, FASTQ, and regions by BED.

What is wrong with one record is said in its place, so that the others can be read.
"""

import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from hyena.arguments import readable
from hyena.data.documents import Document
from hyena.data.readers import SUFFIXES, Kind, is_packed, kind_of, opened, table_rows
from hyena.data.row import row
from hyena.data.utf8 import decode_utf8
from hyena.genomes import Fasta, Region, read_bed, read_sequences, reverse_complement

from .sequences import SoftMasked

_KINDS: tuple[Kind, ...] = ("text", "jsonl", "csv", "tsv", "fasta", "fastq")
_NAMES = ("name", "id")  # fields of a row that may name it


def read(
    file: Path, *, field: str = "text", soft_masked: SoftMasked = "fold"
) -> Iterator[Document]:
    """The sequences of a file, by its suffix, with .gz or .bgz after it if it is packed.

    A line of text is a sequence, blank ones left out, called ``line 1`` and so on; a row of CSV,
    TSV or JSON Lines is called by its column ``name`` or ``id`` if it has one, else by its line; a
    record of FASTA or FASTQ by its name.

    Args:
        field: of a row that holds the sequence.
        soft_masked: "fold" makes the lower-case letters of FASTA and FASTQ upper case.

    Raises: FileNotFoundError if there is no such file; ValueError if it is of another kind, or so
        damaged that nothing can be read after it.
    """
    kind = _kind_of(file)
    if kind in ("fasta", "fastq"):
        return _records(file, soft_masked)
    if kind in ("csv", "tsv"):
        return _cells(file, kind, field)
    return _rows(file, field) if kind == "jsonl" else _lines(file)


def read_regions(
    file: Path,
    fasta: Fasta,
    *,
    soft_masked: SoftMasked = "fold",
    after: int = 0,
    on_error: Callable[[ValueError], None] | None = None,
) -> Iterator[Document]:
    """The sequences of the regions of a BED file, in its order, one in memory at a time.

    On the strand "-" it is the reverse complement. A region is called by its name, or if it has
    none by its place in the table's own numbers: ``chr1:100-250``, and ``chr1:100-250(-)`` on the
    other strand. What is wrong with one, such as an end beyond that of its record, is said in its
    place.

    Args:
        file: see `hyena.genomes.read_bed`.
        fasta: the genome that they are of.
        soft_masked: "fold" makes lower-case bases upper case.
        after: so many regions are passed over.
        on_error: gets the error of a line that is no region, which is then left out; without it
            the first one is raised.

    Raises: as `hyena.genomes.read_bed`.
    """
    for region in islice(read_bed(file, on_error=on_error), after, None):
        name = region.name or _place(region)
        try:
            bases = _bases(region, fasta)
        except ValueError as error:
            yield _without(name, f"{readable(file)} line {region.line}: {error}")
            continue
        sequence = bases.upper() if soft_masked == "fold" else bases
        yield Document(name, sequence.decode("ascii"))


def size_of(file: Path) -> int | None:
    """About so many characters of sequences are in a file; None if it is packed."""
    return None if is_packed(file) else file.stat().st_size


def _kind_of(file: Path) -> Kind:
    shown = readable(file)
    if not file.exists():
        raise FileNotFoundError(f"sequences were asked for in {shown}, which does not exist")
    if not file.is_file():
        raise ValueError(f"sequences were asked for in {shown}, which is no file")
    kind = kind_of(file.name)
    if kind is None or kind not in _KINDS:
        known = ", ".join(suffix for each in _KINDS for suffix in SUFFIXES[each])
        raise ValueError(
            f"{shown} is of no known kind ({known}; all of them also with .gz or .bgz); rename or "
            "convert it"
        )
    return kind


def _texts(file: Path) -> Iterator[tuple[int, str | ValueError]]:
    """The lines that are not blank, with their numbers, or what is wrong with them."""
    shown = readable(file)
    with opened(file, shown) as stream:
        offset = 0
        for number, line in enumerate(stream, start=1):
            found: str | ValueError
            try:
                found = decode_utf8(line, shown, offset).removesuffix("\n").removesuffix("\r")
                if "\0" in found:
                    raise ValueError("it has a byte 0x00: it is no text, or UTF-16")
            except ValueError as error:
                found = error
            offset += len(line)
            if isinstance(found, ValueError) or found.strip():
                yield number, found


def _lines(file: Path) -> Iterator[Document]:
    for number, text in _texts(file):
        name = f"line {number}"
        yield Document(name, text) if isinstance(text, str) else _without(name, text)


def _rows(file: Path, field: str) -> Iterator[Document]:
    for number, text in _texts(file):
        name = f"line {number}"
        if not isinstance(text, str):
            yield _without(name, text)
            continue
        try:
            record: Any = json.loads(text)
        except (ValueError, RecursionError) as error:
            yield _without(name, f"it is not JSON: {error}")
            continue
        found = row(record, field, name)
        yield found._replace(name=_name_of(record) or name)


def _cells(file: Path, kind: Kind, field: str) -> Iterator[Document]:
    shown = readable(file)
    for found, cells in table_rows(file, shown, kind, field):
        name = _name_of(cells) or found.name.removeprefix(f"{shown} ")
        yield found._replace(name=name)


def _name_of(record: Any) -> str | None:
    """In one line and in UTF-8: names stand one after the other in files."""
    values = [record.get(key) for key in _NAMES] if isinstance(record, dict) else []
    given = [str(x) for x in values if isinstance(x, str | int) and not isinstance(x, bool)]
    name = next((" ".join(x.split()) for x in given if x.strip()), None)
    return name and name.encode(errors="replace").decode()  # JSON may have half a character


def _records(file: Path, soft_masked: SoftMasked) -> Iterator[Document]:
    bad: list[ValueError] = []  # of the records since the last one that is none
    number = 0

    def left_out() -> Iterator[Document]:
        nonlocal number
        for error in bad:
            number += 1
            yield _without(f"record {number}", error)
        bad.clear()

    for record in read_sequences(file, on_error=bad.append):
        yield from left_out()
        number += 1
        sequence = record.sequence.upper() if soft_masked == "fold" else record.sequence
        yield Document(record.name or f"record {number}", sequence.decode("ascii"))
    yield from left_out()


def _without(name: str, why: object) -> Document:
    return Document(name, "", lacks=" ".join(str(why).split()))


def _place(region: Region) -> str:
    strand = "(-)" if region.strand == "-" else ""
    return f"{region.chrom}:{region.start}-{region.end}{strand}"


def _bases(region: Region, fasta: Fasta) -> bytes:
    """Of a region, in the direction of its strand. Raises: ValueError if there are none."""
    if region.start == region.end:
        raise ValueError(f"the region {_place(region)} is empty")
    bases = fasta.fetch(region.chrom, region.start, region.end)
    return reverse_complement(bases) if region.strand == "-" else bases
