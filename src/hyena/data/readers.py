"""The kinds of files that hold text, and how each is read: in blocks, by row or by line."""

import csv
import gzip
import io
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
from .packages import require
from .parquet import parquet_rows
from .row import row
from .tally import Tally
from .utf8 import decode_blocks, decode_utf8

Kind = Literal["text", "jsonl", "json", "csv", "tsv", "parquet", "fastq", "fasta"]

SUFFIXES: dict[Kind, tuple[str, ...]] = {
    "text": (".txt", ".text", ".md"),
    "jsonl": (".jsonl", ".ndjson"),
    "json": (".json",),
    "csv": (".csv",),
    "tsv": (".tsv",),
    "parquet": (".parquet",),
    "fastq": (".fastq", ".fq"),
    "fasta": (".fasta", ".fa", ".fna", ".ffn", ".faa"),
}
"""In any case, and with one of `PACKED` after them if the file is compressed."""

PACKED = (".gz", ".bgz", ".zst")

KNOWN = ", ".join(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)


def kind_of(name: str) -> Kind | None:
    """The kind of a file of this name; None if it is of none of them."""
    name = name.lower()
    name = next((name.removesuffix(end) for end in PACKED if name.endswith(end)), name)
    return next((kind for kind, ends in SUFFIXES.items() if name.endswith(ends)), None)


def is_packed(file: Path) -> bool:
    """Whether a file is compressed, by its name."""
    return file.suffix.lower() in PACKED


@contextmanager
def opened(file: Path, shown: str) -> Iterator[IO[bytes]]:
    """A file for reading, unpacked if its name ends in one of `PACKED`.

    Args: shown: the name for messages.
    Raises: ValueError, while it is read, if it is not so packed then; ImportError if .zst needs a
        package that is not installed.
    """
    with _as_it_is(file, shown) as raw:
        if _is_zstd(file):
            yield cast(IO[bytes], io.BufferedReader(_zstd(raw, shown)))
        else:
            yield cast(IO[bytes], gzip.GzipFile(fileobj=raw) if is_packed(file) else raw)


@contextmanager
def _as_it_is(file: Path, shown: str) -> Iterator[IO[bytes]]:
    """A file for reading, and what unpacking it raises as a ValueError."""
    try:
        with file.open("rb") as raw:
            if is_packed(file):
                if not raw.peek(1):
                    raise EOFError("it is empty")
                if not _is_zstd(file):
                    check_last_block(raw)
            yield raw
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        how = "zstd" if _is_zstd(file) else "gzip"
        raise ValueError(f"{shown} is not {how}, or damaged: {error}") from error


def _is_zstd(file: Path) -> bool:
    return file.suffix.lower() == ".zst"


def _zstd(raw: IO[bytes], shown: str) -> Any:
    """A file of one or more frames of Zstandard, unpacked. Raises EOFError for what is none."""
    require("pyarrow", f"{shown}, which is Zstandard,", "hyena[data]")
    import pyarrow

    return _Zstd(pyarrow.CompressedInputStream(pyarrow.PythonFile(raw, "r"), "zstd"))


class _Zstd(io.RawIOBase):
    """Arrow's stream, which reads no lines and raises OSError of what is damaged."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._stream.read(len(buffer))
        except OSError as error:
            raise EOFError(" ".join(str(error).split())) from error
        buffer[: len(data)] = data
        return len(data)


def text_blocks(file: Path, shown: str, start: int = 0, end: int | None = None) -> Iterator[str]:
    """A file of text, or what is from byte ``start`` to byte ``end`` of one that is not packed, in
    blocks. Raises ValueError, naming the place, if it is not UTF-8 text."""
    with _as_it_is(file, shown) as raw, closing(_unpacked(file, shown, raw, start, end)) as read:
        characters = 0
        blocks = decode_blocks(read, shown, start)
        for text in blocks:
            if "\0" in text:
                for _ in blocks:  # a byte that is not UTF-8 says more, wherever it is
                    pass
                place = characters + text.index(chr(0))
                raise _no_text(_from(shown, start), f"at character {place}")
            characters += len(text)
            yield text


def _unpacked(
    file: Path, shown: str, raw: IO[bytes], start: int, end: int | None
) -> Generator[bytes, None, None]:
    """What is in a file, in blocks; of a packed one the next is unpacked while one is worked on."""
    if _is_zstd(file):
        return pieces.ahead(pieces.read_blocks(_zstd(raw, shown)))
    if is_packed(file):
        return pieces.ahead(inflated(raw, pieces.BLOCK))
    raw.seek(start)
    return pieces.read_blocks(raw, None if end is None else end - start)


def _from(shown: str, start: int) -> str:
    """What a part of a file is called whose lines are counted from its beginning."""
    return f"{shown} from byte {start}" if start else shown


def rows(
    file: Path, shown: str, kind: Kind, field: str, start: int = 0, end: int | None = None
) -> Iterator[Document]:
    """The text in ``field`` of each row of JSON Lines, of a JSON array, of Parquet, or of CSV and
    TSV with a line of column names. A row without text is a document without text.

    Args: start, end: of JSON Lines that are not packed, the rows that begin at these bytes and
        between them; of Parquet the row groups; of the others nothing.
    Raises: ValueError, naming the place, if it is not UTF-8 or not of the kind.
    """
    if kind == "parquet":
        yield from parquet_rows(file, shown, field, start, end)
        return
    with opened(file, shown) as stream:
        if kind == "json":
            yield from _json(stream, shown, field)
        elif kind == "jsonl":
            first = _next_line(stream, start) if start else 0
            found = lines(_until(stream, first, end), shown, first)
            yield from _json_lines(found, _from(shown, first), field)
        else:
            for document, _ in _table(_cells(stream, shown, kind), shown, field):
                yield document


def _next_line(stream: IO[bytes], start: int) -> int:
    """Goes to the first line that begins at byte ``start`` or after it; where that is."""
    stream.seek(start - 1)
    return start - 1 + len(stream.readline())


def _until(stream: IO[bytes], start: int, end: int | None) -> Iterator[bytes]:
    """The lines that begin before byte ``end``, of which the first begins at ``start``."""
    for line in stream:
        if end is not None and start >= end:
            return
        yield line
        start += len(line)


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


def lines(stream: Iterable[bytes], shown: str, offset: int = 0) -> Iterator[str]:
    """The lines of a UTF-8 file with their ends, of which the first begins at byte ``offset``.
    Raises ValueError naming the bad byte or line."""
    where = _from(shown, offset)
    for number, line in enumerate(stream, start=1):
        text = decode_utf8(line, shown, offset)
        if "\0" in text:
            raise _no_text(where, f"in line {number}")
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

    def join(self, rows: Iterable[Document], tally: Tally) -> Iterator[Document]:
        """The documents of some rows, the first of which starts one in any case."""
        if self._pattern is None:
            yield from rows
            return
        parts: list[str] = []
        first: Document | None = None
        for document in rows:
            if document.lacks is not None:
                yield document
                continue
            starts = self._pattern.search(document.text) is not None
            tally.rows += 1
            tally.starts += starts
            if first is not None and starts:
                yield first._replace(text="".join(parts))
                first, parts = None, []
            first = first or document
            parts.append(document.text)
        if first is not None:
            yield first._replace(text="".join(parts))

    def check(self, tally: Tally) -> None:
        """Raises ValueError if there were rows, and none of them started a document."""
        if self._pattern is not None and tally.rows and not tally.starts:
            raise ValueError(
                f"document_start {self._pattern.pattern!r} is found in no row of {tally.rows:,}; "
                "give one that is, or leave it out to make each row a document"
            )


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
