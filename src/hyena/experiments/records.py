"""The records behind a table: ``results.json``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hyena.experiments.standings import Standing
from hyena.files import atomic
from hyena.files.records import from_plain, to_plain
from hyena.tasks import TaskConfig

FILE = "results.json"


def write_records(folder: Path, standings: Sequence[Standing]) -> None:
    """Writes all that a table is made of, so that it can be made again, and others with it."""
    content = [_plain(standing) for standing in standings]
    atomic.write_text(folder / FILE, json.dumps(content, indent=1) + "\n")


def read_records(folder: Path) -> list[Standing]:
    """What `write_records` wrote. Raises: ValueError if it is damaged, OSError if not there."""
    path, advice = folder / FILE, "give the folder of a sweep or of its table"
    try:
        content = json.loads(path.read_bytes())
        if not isinstance(content, list):
            raise ValueError("it is not a list")
        return [_standing(row) for row in content]
    except (ValueError, RecursionError) as error:
        cause = " ".join(str(error).split())
        raise ValueError(
            f"{path} has no records of this version's `hyena tasks sweep`: {cause}; {advice}"
        ) from error


def _plain(standing: Standing) -> dict[str, Any]:
    found = dict(to_plain(standing))
    if standing.tried[0] is not None:
        del found["cell"]  # it is the configuration of this record
    return found


def _standing(row: Any) -> Standing:
    if isinstance(row, dict) and "cell" not in row and row.get("tried"):
        row = {**row, "cell": from_plain(dict[str, Any], row["tried"][0], "tried").get("config")}
    standing = from_plain(Standing, row)
    from_plain(TaskConfig, standing.cell.get("task"), "task")  # or no table could be made of it
    if len(standing.tried) != len(standing.trials) or standing.best not in (
        None,
        *range(len(standing.trials)),
    ):
        raise ValueError(f"{standing.row} has {len(standing.trials)} trials, which do not fit")
    return standing
