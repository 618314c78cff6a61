"""What `hyena score`, `hyena embed` and `hyena predict` do alike: sequences under a bar, results
that are kept until all are there, and what is said on the way."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from hyena.arguments import plural
from hyena.cli.bar import Report, bar
from hyena.cli.sequence_options import SequenceOptions
from hyena.data import Document
from hyena.genomes import Fasta
from hyena.scoring.journal import Journal, journal
from hyena.scoring.reading import read, read_regions, size_of

_TOLD = 10  # of what is skipped, so many are named

T = TypeVar("T")
Rows = list[dict[str, Any]]
"""Of one sequence or variant, as JSON has them."""


class Result(Protocol):
    """Of one sequence."""

    @property
    def name(self) -> str: ...
    @property
    def skipped(self) -> str | None: ...


R = TypeVar("R", bound=Result)


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
    documents = read(file, field=options.field or "text", soft_masked=options.soft_masked)
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


def told(file: Path, results: Iterable[R], skips: Skips) -> Iterator[R]:
    """The results as `naming` gives them, of which those that were skipped are told."""
    for found in naming(file, results):
        if found.skipped is not None:
            skips.add(found.name, found.skipped)
        yield found
        del found  # which may be large: not while the next one is made


def deliver(
    out: Path | None,
    work: Mapping[str, Any],
    unit: str,
    what: str,
    results: Callable[[int, Report], Iterable[Rows]],
    write: Callable[[Path, Journal], None],
) -> None:
    """Prints results as JSON Lines; or if there is a file for them keeps them until all are there,
    and writes it, whole or not at all.

    Args:
        work, unit: as in `kept_results`.
        what: the results are, for the last line.
        results: gives the rows of each input but for the first so many, and reports on the way.
        write: writes the file.
    """
    if out is None:
        for rows in results(0, _unseen):
            for row in rows:
                print(json.dumps(row), flush=True)
        return
    with kept_results(out, work, unit) as kept:
        with bar(f"{unit}s") as report:
            for rows in results(kept.done, report):
                kept.append(rows)
        write(out, kept)
    print(f"{out}: {what} of {kept.done:,} {plural(kept.done, unit)}")


def _unseen(done: int, total: int | None, count: int | None = None) -> None:
    """A bar would stand between the lines that are printed."""


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
