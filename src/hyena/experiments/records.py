"""The records behind a table: ``results.json``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hyena.experiments.record import as_result
from hyena.experiments.standings import Standing
from hyena.tasks import TaskConfig
from hyena.training import durable

FILE = "results.json"


def write_records(folder: Path, standings: Sequence[Standing]) -> None:
    """Writes all that a table is made of, so that it can be made again, and others with it."""
    content = [_plain(standing) for standing in standings]
    durable.write_text(folder / FILE, json.dumps(content, indent=1) + "\n")


def read_records(folder: Path) -> list[Standing]:
    """What `write_records` wrote. Raises: ValueError if it is damaged, OSError if not there."""
    path = folder / FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}; make the table again") from error
    try:
        if not isinstance(content, list):
            raise ValueError("it is not a list")
        return [_standing(row) for row in content]
    except (ValueError, LookupError, TypeError) as error:
        cause = error if isinstance(error, ValueError) else "fields are missing or unknown"
        raise ValueError(
            f"{path} has no records of this version's `hyena tasks sweep`: {cause}; give the "
            "folder of a sweep or of its table"
        ) from error


def _plain(standing: Standing) -> dict[str, Any]:
    found = asdict(standing)
    if standing.tried[0] is not None:
        del found["cell"]  # it is the configuration of this record
    return found


def _standing(row: dict[str, Any]) -> Standing:
    tried = [None if result is None else as_result(result) for result in row["tried"]]
    seeds = [as_result(result) for result in row["seeds"]]
    if tried[0] is not None:
        cell = tried[0].config
    else:
        cell = row["cell"]
        TaskConfig(**cell["task"])  # or its table could not be laid out
    return Standing(**{**row, "cell": cell, "tried": tried, "seeds": seeds})
