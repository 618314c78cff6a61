"""What is written of sweeps: the table, the figures and all records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hyena.experiments.figures import draw_sections
from hyena.experiments.layout import lay_out
from hyena.experiments.standings import Standing, read_standings
from hyena.experiments.table import table
from hyena.training import durable

FILE, RECORDS = "table.md", "results.json"


def write_table(sweeps: Sequence[Path], out: Path) -> Path:
    """Writes ``table.md``, ``results.json`` (all records) and the figures.

    Args: folders of sweeps, finished or not; the folder to write to.

    Returns: the table's path.
    Raises: FileNotFoundError if there is no sweep in a folder; ValueError if files are damaged or
        the sweeps do not fit into one table; OSError if the folder cannot be written.
    """
    standings = [standing for sweep in sweeps for standing in read_standings(sweep)]
    sections = lay_out(standings)
    out.mkdir(parents=True, exist_ok=True)
    durable.write_text(out / RECORDS, json.dumps([_plain(s) for s in standings], indent=1) + "\n")
    drawings = draw_sections(sections, out)
    durable.write_text(out / FILE, table(sections, [path.name for path in drawings]))
    return out / FILE


def _plain(standing: Standing) -> dict[str, Any]:
    """A standing with all its records, as JSON has it."""
    found = asdict(standing)
    del found["cell"]
    return found
