"""Rows of Parquet, by Apache Arrow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .documents import Document
from .packages import require
from .row import row

_ROWS = 1_000  # that are in memory at a time


def parquet_rows(
    file: Path, shown: str, field: str, start: int = 0, end: int | None = None
) -> Iterator[Document]:
    """The text in the column ``field`` of each row. A row without text is a document without text.

    Args: start, end: the row groups to read, all without them.
    Raises: ValueError, naming the place, if it is no Parquet, or has no such column; ImportError if
        pyarrow is not installed.
    """
    with _opened(file, shown) as table:
        names = table.schema_arrow.names
        if names.count(field) != 1:
            raise ValueError(
                f"{shown}: expected one column {field!r}, got {names.count(field)}; it has "
                f"{', '.join(map(repr, names)):.200}: name the one that holds the text with "
                "--field (field=)"
            )
        groups = range(table.num_row_groups)[start:end]
        number = sum(table.metadata.row_group(i).num_rows for i in range(start))
        for batch in table.iter_batches(_ROWS, row_groups=list(groups), columns=[field]):
            for value in batch.column(0).to_pylist():
                number += 1
                yield row({field: value}, field, f"{shown} row {number}")


def row_groups(file: Path, shown: str) -> list[int]:
    """The bytes of each row group, unpacked. Raises: as `parquet_rows`."""
    with _opened(file, shown) as table:
        found = table.metadata
        return [found.row_group(i).total_byte_size for i in range(found.num_row_groups)]


@contextmanager
def _opened(file: Path, shown: str) -> Iterator[Any]:
    require("pyarrow", f"{shown}, which is Parquet,", "hyena[data]")
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(file) as table:
            yield table
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        why = " ".join(str(error).split())
        raise ValueError(f"{shown} is not Parquet, or damaged: {why:.200}") from error
