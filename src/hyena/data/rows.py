"""Rows of text: JSON Lines records and dataset rows, one document each or joined to documents."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

from .documents import Document
from .utf8 import decode_utf8

if sys.version_info >= (3, 11):
    from importlib.resources.abc import Traversable
else:
    from importlib.abc import Traversable


def json_lines(file: Traversable, shown: str, field: str) -> Iterator[Document]:
    """The text in ``field`` of each line of a JSON Lines file; blank lines are passed over.

    Raises: ValueError, naming ``shown`` and the line, if it is not UTF-8 or not JSON, or has no
        text in that field.
    """
    offset = 0
    with file.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            name = f"{shown} line {number}"
            text = decode_utf8(line, shown, offset)
            offset += len(line)
            if not text.strip():
                continue
            try:
                record = json.loads(text.rstrip())
            except json.JSONDecodeError as error:
                raise ValueError(
                    f"{name} is not JSON: {error.msg} at column {error.colno}"
                ) from error
            except RecursionError as error:
                raise ValueError(f"{name} is not a record: it is nested too deeply") from error
            yield Document(name, text_of(record, field, name))


def text_of(record: Any, field: str, name: str) -> str:
    """The text in ``field`` of a row. Raises ValueError, naming the row, if there is none."""
    if not isinstance(record, dict):
        raise ValueError(f"{name}: expected an object with field {field!r}, got {record!r:.60}")
    if field not in record:
        raise ValueError(f"{name} has no field {field!r}; it has {', '.join(map(repr, record))}")
    text = record[field]
    if not isinstance(text, str):
        kind = type(text).__name__
        raise ValueError(f"{name}: field {field!r} should hold text, but holds {kind}")
    return text


def join_rows(rows: Iterator[Document], start: str | None) -> Iterator[Document]:
    """Joins each row in which ``start`` is found and those after it; with None, joins nothing."""
    if start is None:
        yield from rows
        return
    pattern = re.compile(start)
    parts: list[str] = []
    first: Document | None = None
    for row in rows:
        if first is not None and pattern.search(row.text):
            yield first._replace(text="".join(parts))
            first, parts = None, []
        first = first or row
        parts.append(row.text)
    if first is not None:
        yield first._replace(text="".join(parts))
