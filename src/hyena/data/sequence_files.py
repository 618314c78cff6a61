"""The records of FASTA and FASTQ as documents."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from hyena.arguments import plural, shown
from hyena.genomes import fastq, parts

from .documents import SPLITS, Document, Piece
from .pieces import in_pieces
from .readers import Kind, text_blocks
from .tally import Tally

SEQUENCES = ("fasta", "fastq")
"""The kinds of files that are read here."""

RECORD = "record:"
"""How a way to split begins that names records."""

RUN = 10
"""Fewest N of a run that is a gap between two sequences, as sequence archives count."""

_RUN = re.compile(f"[Nn]{{{RUN},}}")


class HeldOut:
    """The records that are held out by their names.

    Args: spec: ``record:VALIDATION,TEST``, the names of each split with ``+`` between them. A
        backslash stands before each ``+``, ``,`` and backslash that is of a name.
    Raises: ValueError if it names no record, one twice, or more than two splits.
    """

    def __init__(self, spec: str) -> None:
        self._spec = spec
        self._splits: dict[str, str] = {}
        names = _names(spec.removeprefix(RECORD))
        if len(names) > 2 or not any(names):
            raise ValueError(
                f"split_by: expected the names of records to hold out as {RECORD}VALIDATION,TEST, "
                r"several with + between them, and \+ and \, for such signs in a name, got "
                f"{shown(spec)}"
            )
        for split, found in zip(SPLITS[1:], names, strict=False):
            for name in found:
                if self._splits.setdefault(name, split) != split or found.count(name) > 1:
                    raise ValueError(
                        f"split_by names the record {shown(name)} twice: {shown(spec)}"
                    )

    def split_of(self, name: str, tally: Tally) -> str:
        """The split of a record of this name, which is there: ``tally`` is told."""
        if name in self._splits:
            if name not in tally.held_out:
                tally.held_out.append(name)
            return self._splits[name]
        if len(tally.others) < 5 and name not in tally.others:
            tally.others.append(name)
        return "train"

    def check(self, tally: Tally) -> None:
        """Raises ValueError if a record was not there."""
        missing = self._splits.keys() - set(tally.held_out)
        if missing:
            some = ", ".join(f"{name!r:.60}" for name in tally.others[:5])
            raise ValueError(
                f"split_by {shown(self._spec)} names the record {min(missing)!r:.60}, but "
                f"the source has none of this name; among those that it has are {some or 'none'}"
            )


def _names(text: str) -> list[list[str]]:
    """The names with ``+`` between them, for each part with ``,`` before the next."""
    found = [[""]]
    for sign, escaped, other in re.findall(r"([+,])|\\([+,\\])|([^+,\\]+|\\)", text):
        if sign == ",":
            found.append([""])
        elif sign:
            found[-1].append("")
        else:
            found[-1][-1] += escaped or other
    return [[name for name in names if name] for names in found]


class _Sequence(NamedTuple):
    """A part of a sequence, whether another part of it comes next, and the name of its record."""

    name: str
    letters: bytes
    more: bool


def sequences(
    file: Path,
    shown: str,
    kind: Kind,
    tally: Tally,
    *,
    nucleotides: bool = False,
    fold: bool = False,
    held_out: HeldOut | None = None,
) -> Iterator[Piece]:
    """The sequence of each record of a FASTA or FASTQ file, without white space.

    Args:
        file: the file.
        shown: its name for messages.
        kind: one of `SEQUENCES`.
        tally: gets what else there is to say.
        nucleotides: whether a letter of no nucleic acid is an error.
        fold: whether lower case becomes upper case.
        held_out: says the split of each record.

    Raises: ValueError, naming the place, if it is not UTF-8, not of the kind or without a record,
        or on such a letter.
    """
    blocks = (text.encode() for text in text_blocks(file, shown))
    if kind == "fasta":
        found = _fasta(blocks, shown, tally.notes, nucleotides)
    else:
        found = _fastq(blocks, shown, nucleotides)
    none = True
    for name, letters, more in found:
        none = False
        text = (letters.upper() if fold else letters).decode()
        split = None if held_out is None else held_out.split_of(name, tally)
        yield from in_pieces(Document(f"{shown} {name}", text, split), more=more)
    if none:
        sign = ">" if kind == "fasta" else "@"
        raise ValueError(f"{shown} has no record: expected lines that begin with '{sign}'")


def _fasta(
    blocks: Iterable[bytes], shown: str, notes: list[str], nucleotides: bool
) -> Iterator[_Sequence]:
    names, again = set[str](), list[str]()
    begins = True
    for part in parts.fasta_parts(blocks, shown):
        if begins:
            if part.name in names:
                again.append(part.name)
            names.add(part.name)
        begins = not part.more
        letters = parts.nucleotides(part, shown) if nucleotides else parts.letters(part)
        yield _Sequence(part.name, letters, part.more)
    if again:
        notes.append(
            f"{shown}: {len(again):,} {plural(len(again), 'record has', 'records have')} the name "
            f"of one before, the first {again[0]!r}; all were kept"
        )


def _fastq(blocks: Iterable[bytes], shown: str, nucleotides: bool) -> Iterator[_Sequence]:
    for read in fastq.fastq_reads(blocks, shown):
        letters = fastq.nucleotides(read, shown) if nucleotides else read.sequence
        yield _Sequence(read.name, letters, False)


def cut_runs(pieces: Iterable[Piece], *, split: bool) -> Iterator[Piece]:
    """Sequences without their runs of `RUN` N or more, in either case.

    Args:
        pieces: sequences in pieces.
        split: whether what is on the two sides of a run become two documents, or are joined.

    Returns: pieces; a sequence of nothing else is a document without text.
    """
    held = ""  # the N at the end of what was read: their run may go on
    begun = given = False  # whether a part of the document was yielded; any of the sequence
    for document, more in pieces:
        text = held + document.text
        kept = text.rstrip("Nn") if more else text
        held = text[len(kept) :][:RUN]  # a longer run is none the less one
        found = _RUN.split(kept)
        *whole, last = found if split else ["".join(found)]
        for part in whole:
            if begun or part:
                yield Piece(document._replace(text=part), False)
                given = True
            begun = False
        if more and last:
            yield Piece(document._replace(text=last), True)
            begun = given = True
        elif not more:
            if begun or last or not given:
                yield Piece(document._replace(text=last), False)
            begun = given = False
