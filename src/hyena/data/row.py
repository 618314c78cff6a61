"""The text in a field of a row."""

from typing import Any

from .documents import Document
from .utf8 import utf8


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
