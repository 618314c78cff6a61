"""What is written of sweeps: the table, the figures and all records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hyena.experiments import plan, records
from hyena.experiments.figures import draw_sections
from hyena.experiments.layout import lay_out
from hyena.experiments.standings import Standing, read_standings
from hyena.experiments.table import table
from hyena.files import atomic

FILE = "table.md"


def write_table(folders: Sequence[Path], out: Path) -> Path:
    """Writes ``table.md``, ``results.json`` (all records) and the figures.

    Args: folders of sweeps, finished or not, or of tables; the folder to write to.

    Returns: the table's path.
    Raises: FileNotFoundError if there is neither in a folder; ValueError if files are damaged or
        the sweeps do not fit into one table; OSError if the folder cannot be written.
    """
    standings = [standing for folder in folders for standing in _standings(folder)]
    sections = lay_out(standings)
    out.mkdir(parents=True, exist_ok=True)
    records.write_records(out, standings)
    drawings = draw_sections(sections, out)
    atomic.write_text(out / FILE, table(sections, [path.name for path in drawings]))
    return out / FILE


def _standings(folder: Path) -> list[Standing]:
    """A sweep's, or where there is none those of a table that was made elsewhere."""
    if (folder / records.FILE).is_file() and not (folder / plan.FILE).is_file():
        return records.read_records(folder)
    return read_standings(folder)
