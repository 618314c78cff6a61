"""What `hyena score` and `hyena embed` do alike: sequences under a bar, results that are kept until
all are there, and what is said on the way."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from hyena.arguments import plural
from hyena.cli.bar import Report
from hyena.cli.sequence_options import SequenceOptions
from hyena.data import Document
from hyena.genomes import Fasta
from hyena.scoring.journal import Journal, journal
from hyena.scoring.reading import read, read_regions, size_of

_TOLD = 10  # of what is skipped, so many are named

T = TypeVar("T")


class Skips:
    """What was skipped: the first ones are named, the others counted."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, name: str, why: object) -> None:
        self.count += 1
        if self.count <= _TOLD:
            say(f"skipped {name}: {why}")

    def close(self) -> None:
        if self.count > _TOLD:
            say(f"skipped {self.count - _TOLD:,} more")


def sequences_of(
    file: Path, options: SequenceOptions, skip: int, report: Report, skips: Skips
) -> Iterator[Document]:
    """The sequences of a file, or of its regions, but for the first so many, under a bar.

    Raises: ValueError if there are none, and if regions are asked for of a file that is no FASTA;
        as `hyena.scoring.reading.read` and `read_regions`.
    """
    if options.regions is not None:
        return _of_regions(options.regions, Fasta(file), options, skip, report, skips)
    return _of_file(file, options, skip, report)


def _of_file(file: Path, options: SequenceOptions, skip: int, report: Report) -> Iterator[Document]:
    documents = read(file, field=options.field, soft_masked=options.soft_masked)
    total, done, count = size_of(file), 0, 0
    for document in documents:
        report(done, total, count)  # without this one, which may take long
        done, count = done + len(document.text), count + 1
        if count > skip:
            yield document
    if not count:
        raise ValueError(f"{file} is empty: there are no sequences in it")


def _of_regions(
    file: Path, fasta: Fasta, options: SequenceOptions, skip: int, report: Report, skips: Skips
) -> Iterator[Document]:
    bad = partial(skips.add, "a line") if options.on_error == "skip" else None
    count = skip
    for document in read_regions(
        file, fasta, soft_masked=options.soft_masked, after=skip, on_error=bad
    ):
        report(count, None)
        count += 1
        yield document
    if not count:
        raise ValueError(f"{file} has no regions")


def naming(file: Path, results: Iterable[T]) -> Iterator[T]:
    """The results, of which a ValueError names the file that they are of."""
    try:
        yield from results
    except ValueError as error:
        if str(file) in str(error):
            raise
        raise ValueError(f"{file}: {error}") from error


@contextmanager
def kept_results(out: Path, work: Mapping[str, Any], unit: str) -> Iterator[Journal]:
    """`hyena.scoring.journal.journal`, which says how far an earlier command has come, and if this
    one fails how far it has.

    Args: ``unit``, what the results are of.
    """
    with journal(out, work) as kept:
        if kept.lost:
            say(
                f"{kept.lost:,} {plural(kept.lost, unit)} in {kept.folder} "
                f"{plural(kept.lost, 'was', 'were')} half-written or changed since, and "
                f"{plural(kept.lost, 'is', 'are')} done again"
            )
        if kept.done:
            say(f"going on after {kept.done:,} {plural(kept.done, unit)} that {kept.folder} holds")
        try:
            yield kept
        except BaseException:
            if kept.done:
                of = f"{kept.done:,} {plural(kept.done, unit)}"
                say(f"{kept.folder} holds the results of {of}; the same command goes on from there")
            raise


def say(text: str) -> None:
    """A note on standard error."""
    print("note: " + " ".join(text.split()), file=sys.stderr)
