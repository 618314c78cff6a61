"""The record that a finished job leaves in its folder, whatever kind of record that is."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from hyena.experiments.jobs import FAILED
from hyena.files import records

FILE = "result.json"
_AGAIN = "if it is of this cell, remove it to measure the cell again"

Record = TypeVar("Record")


def write_finished(folder: Path, record: object, version: int) -> None:
    """Writes the record with its digest, atomically; then no note says that the job failed."""
    records.write_listed(folder / FILE, record, version)
    (folder / FAILED).unlink(missing_ok=True)


def read_finished(folder: Path, kind: type[Record], version: int) -> Record | None:
    """The record in a job's folder; None if the job is not finished.

    Args: the folder; the dataclass and the format version of its record.
    Raises: ValueError if it is damaged or of another format version.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    return records.read_listed(path, kind, version, advice=_AGAIN)
