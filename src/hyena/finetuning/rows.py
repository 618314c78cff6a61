"""Rows with a sequence and its labels, as they stand in a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hyena.arguments import readable, shown
from hyena.data.readers import SUFFIXES, Kind, kind_of, records

KINDS: tuple[Kind, ...] = ("tsv", "csv", "jsonl")


class Row(NamedTuple):
    """A row of a file.

    Attributes:
        place: of it, for messages: the file and the line.
        sequence: as text.
        labels: what stands in the columns of the labels.
    """

    place: str
    sequence: str
    labels: tuple[Any, ...]


def read_rows(file: Path, sequence: str, columns: Sequence[str]) -> list[Row]:
    """All rows of a file: ``.tsv`` or ``.csv`` with a line of column names, or ``.jsonl``, packed
    with gzip or not.

    Args:
        sequence: the column that holds the sequence.
        columns: those that hold its labels.

    Raises: FileNotFoundError if there is no such file; ValueError, in one line that names file and
        line, on anything that is no row with a sequence and its labels, and without any row.
    """
    kind, name = _kind_of(file), readable(file)
    rows = [_row(place, record, sequence, columns) for place, record in records(file, name, kind)]
    if not rows:
        raise ValueError(f"{name} has no rows; expected sequences with their labels")
    return rows


def is_table(file: Path) -> bool:
    """Whether it is called as a file of rows is, and is no folder."""
    return kind_of(file.name) in KINDS and not file.is_dir()


def _kind_of(file: Path) -> Kind:
    name = readable(file)
    if not file.exists():
        raise FileNotFoundError(f"rows with labels were asked for in {name}, which does not exist")
    kind = kind_of(file.name)
    if not file.is_file() or kind is None or kind not in KINDS:
        known = ", ".join(suffix for each in KINDS for suffix in SUFFIXES[each])
        raise ValueError(
            f"rows with labels were asked for in {name}; expected a file of rows ({known}; all "
            "of them also with .gz)"
        )
    return kind


def _row(place: str, record: Any, sequence: str, columns: Sequence[str]) -> Row:
    if not isinstance(record, dict):
        raise ValueError(f"{place}: expected an object with {sequence!r}, got {shown(record)}")
    for column, option in [(sequence, "sequence"), *((name, "columns") for name in columns)]:
        if column not in record:
            raise ValueError(
                f"{place}: no column {column!r} among {', '.join(map(repr, record)):.200}; name it "
                f"with --labels.{option} (labels.{option})"
            )
    text = record[sequence]
    if not isinstance(text, str) and text is not None:
        raise ValueError(f"{place}: expected text in column {sequence!r}, got {shown(text)}")
    if not text:
        raise ValueError(f"{place}: the sequence is empty")
    labels = tuple(record[column] for column in columns)
    for column, label in zip(columns, labels, strict=True):
        if label is None or (isinstance(label, str) and not label.strip()):
            raise ValueError(f"{place}: the label in column {column!r} is empty")
    return Row(place, text, labels)
