"""The kinds of files that hold text, and how each is read: in blocks, by row or by line."""

import csv
import gzip
import json
import re
import zlib
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import IO, Any, Literal, cast

from hyena.arguments import plural
from hyena.genomes.unpacked import check_last_block, inflated

from . import pieces
from .documents import Document
from .utf8 import decode_blocks, decode_utf8, utf8

Kind = Literal["text", "jsonl", "json", "csv", "tsv", "fastq", "fasta"]

SUFFIXES: dict[Kind, tuple[str, ...]] = {
    "text": (".txt", ".text", ".md"),
    "jsonl": (".jsonl", ".ndjson"),
    "json": (".json",),
    "csv": (".csv",),
    "tsv": (".tsv",),
    "fastq": (".fastq", ".fq"),
    "fasta": (".fasta", ".fa", ".fna", ".ffn", ".faa"),
}
"""In any case, and with .gz or .bgz after them if the file is compressed."""

KNOWN = ", ".join(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)


def kind_of(name: str) -> Kind | None:
    """The kind of a file of this name; None if it is of none of them."""
    name = name.lower().removesuffix(".gz").removesuffix(".bgz")
    return next((kind for kind, ends in SUFFIXES.items() if name.endswith(ends)), None)


def is_packed(file: Path) -> bool:
    """Whether a file is compressed, by its name."""
    return file.suffix.lower() in (".gz", ".bgz")


@contextmanager
def opened(file: Path, shown: str) -> Iterator[IO[bytes]]:
    """A file for reading, unpacked if its name ends in .gz or .bgz.

    Args: shown: the name for messages.
    Raises: ValueError, while it is read, if it is not gzip then.
    """
    with _as_it_is(file, shown) as raw:
        yield cast(IO[bytes], gzip.GzipFile(fileobj=raw) if is_packed(file) else raw)


@contextmanager
def _as_it_is(file: Path, shown: str) -> Iterator[IO[bytes]]:
    """A file for reading, and what unpacking it raises as a ValueError."""
    try:
        with file.open("rb") as raw:
            if is_packed(file):
                if not raw.peek(1):
                    raise EOFError("it is empty")
                check_last_block(raw)
            yield raw
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{shown} is not gzip, or damaged: {error}") from error


def text_blocks(file: Path, shown: str) -> Iterator[str]:
    """A file of text, in blocks. Raises ValueError, naming the place, if it is not UTF-8 text."""
    with _as_it_is(file, shown) as raw, closing(_unpacked(file, raw)) as read:
        characters = 0
        blocks = decode_blocks(read, shown)
        for text in blocks:
            if "\0" in text:
                for _ in blocks:  # a byte that is not UTF-8 says more, wherever it is
                    pass
                raise _no_text(shown, f"at character {characters + text.index(chr(0))}")
            characters += len(text)
            yield text


def _unpacked(file: Path, raw: IO[bytes]) -> Generator[bytes, None, None]:
    """What is in a file, in blocks; of a packed one the next is unpacked while one is worked on."""
    if is_packed(file):
        return pieces.ahead(inflated(raw, pieces.BLOCK))
    return pieces.read_blocks(raw)


def rows(file: Path, shown: str, kind: Kind, field: str) -> Iterator[Document]:
    """The text in ``field`` of each row of JSON Lines, of a JSON array, or of CSV and TSV with a
    line of column names. A row without text is a document without text.

    Raises: ValueError, naming the place, if it is not UTF-8 or not of the kind.
    """
    with opened(file, shown) as stream:
        if kind == "json":
            yield from _json(stream, shown, field)
        elif kind == "jsonl":
            yield from _json_lines(lines(stream, shown), shown, field)
        else:
            for document, _ in _table(_cells(stream, shown, kind), shown, field):
                yield document


def table_rows(
    file: Path, shown: str, kind: Kind, field: str
) -> Iterator[tuple[Document, dict[str, str | None]]]:
    """The rows of CSV or TSV as `rows` gives them, each beside all its cells by their columns."""
    with opened(file, shown) as stream:
        yield from _table(_cells(stream, shown, kind), shown, field)


def records(file: Path, shown: str, kind: Kind) -> Iterator[tuple[str, Any]]:
    """The rows of JSON Lines, or of CSV and TSV with a line of column names, each with its place,
    such as ``x.tsv line 3``. A row of a table is a mapping; one of JSON Lines should be.

    Raises: ValueError, naming the place, if it is not UTF-8 or not of the kind, or if two columns
        have one name.
    """
    with opened(file, shown) as stream:
        if kind == "jsonl":
            yield from _parsed_lines(lines(stream, shown), shown)
            return
        table = _cells(stream, shown, kind)
        csv.field_size_limit(2**31 - 1)
        where, columns = next(table, (shown, []))
        twice = [name for name in columns if columns.count(name) > 1]
        if twice:
            raise ValueError(f"{where}: two columns are called {twice[0]!r}; rename one of them")
        yield from _mappings(table, columns)


def lines(stream: Iterable[bytes], shown: str) -> Iterator[str]:
    """The lines of a UTF-8 file with their ends. Raises ValueError naming the bad byte or line."""
    offset = 0
    for number, line in enumerate(stream, start=1):
        text = decode_utf8(line, shown, offset)
        if "\0" in text:
            raise _no_text(shown, f"in line {number}")
        yield text
        offset += len(line)


def _no_text(shown: str, where: str) -> ValueError:
    return ValueError(
        f"{shown} is not text: byte 0x00 {where}; if it is UTF-16, convert it to UTF-8 first"
    )


class JoinedRows:
    """Joins each row in which ``start`` is found and those after it; with None, joins nothing."""

    def __init__(self, start: str | None) -> None:
        self._pattern = None if start is None else re.compile(start)
        self._rows = self._starts = 0

    def join(self, rows: Iterable[Document]) -> Iterator[Document]:
        """The documents of some rows, the first of which starts one in any case."""
        if self._pattern is None:
            yield from rows
            return
        parts: list[str] = []
        first: Document | None = None
        for row in rows:
            if row.lacks is not None:
                yield row
                continue
            starts = self._pattern.search(row.text) is not None
            self._rows += 1
            self._starts += starts
            if first is not None and starts:
                yield first._replace(text="".join(parts))
                first, parts = None, []
            first = first or row
            parts.append(row.text)
        if first is not None:
            yield first._replace(text="".join(parts))

    def check(self) -> None:
        """Raises ValueError if there were rows, and none of them started a document."""
        if self._pattern is not None and self._rows and not self._starts:
            raise ValueError(
                f"document_start {self._pattern.pattern!r} is found in no row of {self._rows:,}; "
                "give one that is, or leave it out to make each row a document"
            )


def row(record: Any, field: str, name: str, split: str | None = None) -> Document:
    """The text in ``field`` of a row; without any if there is none."""
    text, lacks = "", None
    if not isinstance(record, dict):
        lacks = f"expected an object with field {field!r}, got {record!r:.60}"
    elif field not in record:
        lacks = f"no field {field!r} among {', '.join(map(repr, record)):.200}"
    elif not isinstance(record[field], str):
        lacks = f"field {field!r} should hold text, but holds {type(record[field]).__name__}"
    else:
        try:
            utf8(record[field])
            text = record[field]
        except ValueError as error:
            lacks = str(error)
    return Document(name, text, split, lacks)


def _json_lines(texts: Iterable[str], shown: str, field: str) -> Iterator[Document]:
    for name, record in _parsed_lines(texts, shown):
        yield row(record, field, name)


def _parsed_lines(texts: Iterable[str], shown: str) -> Iterator[tuple[str, Any]]:
    """The value in each line that is not blank, with its place."""
    for number, text in enumerate(texts, start=1):
        if text.strip():
            name = f"{shown} line {number}"
            yield name, _parsed(text.rstrip(), name)


def _json(stream: IO[bytes], shown: str, field: str) -> Iterator[Document]:
    text = decode_utf8(stream.read(), shown)
    if "\0" in text:
        raise _no_text(shown, f"at character {text.index(chr(0))}")
    if not text.lstrip().startswith("["):  # JSON Lines under another name
        try:
            yield from _json_lines(text.split("\n"), shown, field)
        except ValueError:
            if _is_json(text):
                raise ValueError(
                    f"{shown} is a single JSON value over several lines; expected an array of "
                    "rows, or a row in each line"
                ) from None
            raise
        return
    for i, record in enumerate(_parsed(text, shown)):
        yield row(record, field, f"{shown} record {i}")


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _parsed(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno} " if error.lineno > 1 else ""
        raise ValueError(
            f"{name} is not JSON: {error.msg} at {line}column {error.colno}"
        ) from error
    except RecursionError as error:
        raise ValueError(f"{name} is not a record: it is nested too deeply") from error
    except ValueError as error:  # Python reads no whole number of thousands of digits
        raise ValueError(f"{name} is not a record: a number in it has too many digits") from error


def _cells(stream: IO[bytes], shown: str, kind: Kind) -> Iterator[tuple[str, list[str]]]:
    """The rows of CSV or TSV, that of the columns' names too, each with its place."""
    return (_tsv if kind == "tsv" else _csv)(lines(stream, shown), shown)


def _table(
    table: Iterator[tuple[str, list[str]]], shown: str, field: str
) -> Iterator[tuple[Document, dict[str, str | None]]]:
    """The text in the column ``field`` of a table, whose rows come with the place of each, beside
    the row's cells."""
    csv.field_size_limit(2**31 - 1)  # a field holds a document; 131,072 characters are usual
    _, columns = next(table, ("", [field]))
    if columns.count(field) > 1:
        raise ValueError(
            f"{shown}: expected one column {field!r}, got {columns.count(field)}; rename all "
            "but the one that holds the text"
        )
    if field not in columns:
        raise ValueError(
            f"{shown} has no column {field!r}; it has {', '.join(map(repr, columns)):.200}: "
            "name the one that holds the text with --field (field=)"
        )
    for where, record in _mappings(table, columns):
        yield row(record, field, where), record


def _mappings(
    table: Iterator[tuple[str, list[str]]], columns: list[str]
) -> Iterator[tuple[str, dict[str, str | None]]]:
    """The rows of a table by the names of its columns, None where a row ends before."""
    for where, cells in table:
        if len(cells) > len(columns):  # such as text after a bare comma
            raise ValueError(
                f"{where}: expected {len(columns)} {plural(len(columns), 'cell')} as the first "
                f"line has, got {len(cells)}; put quotes around text that holds commas or tabs"
            )
        yield where, dict(zip_longest(columns, cells))


def _csv(texts: Iterable[str], shown: str) -> Iterator[tuple[str, list[str]]]:
    """The rows of a table with commas, each with the place of its last line."""
    table, last = csv.reader(texts, strict=True), 0
    try:
        for cells in table:
            last = table.line_num
            if cells:
                yield f"{shown} line {last}", cells
    except csv.Error as error:
        if "new-line" in str(error):
            raise _carriage_return(f"{shown} line {table.line_num}") from error
        raise ValueError(f"{shown} after line {last}: no row of a table: {error}") from error


def _tsv(texts: Iterable[str], shown: str) -> Iterator[tuple[str, list[str]]]:
    """The rows of a table with tabs, each with its place: a line is a row, whatever is quoted.

    In such files quotes may be characters of the text. One of them could open a cell, which would
    swallow all up to the next.
    """
    columns = 0
    advice = "a cell that begins with a quote must end with one in its line, and hold quotes as two"
    for number, text in enumerate(texts, start=1):
        where = f"{shown} line {number}"
        line = text.removesuffix("\n").removesuffix("\r")
        if "\r" in line:
            raise _carriage_return(where)
        cells = line.split("\t") if line else []
        if '"' in line:
            try:
                cells = next(csv.reader([line], delimiter="\t", strict=True))
            except csv.Error as error:
                why = str(error).replace("\t", r"\t")
                raise ValueError(f"{where}: no row of a table: {why}; {advice}") from error
        columns = columns or len(cells)
        if len(cells) < columns and any("\t" in cell for cell in cells):
            raise ValueError(
                f"{where}: expected {columns} cells as the first line has, got {len(cells)} with a "
                f"tab between quotes; {advice}"
            )
        if cells:
            yield where, cells


def _carriage_return(where: str) -> ValueError:
    return ValueError(
        f"{where}: a carriage return that ends no line stands in a cell; if it should end one, "
        "write line feeds instead"
    )
