"""`hyena scaling table`: what each family saves, and every training behind it."""

from dataclasses import dataclass
from pathlib import Path

from hyena.scaling.table import RUNS, write_table

POSITIONAL = "folder"


@dataclass
class Config:
    """Which sweep, and where to."""

    folder: Path
    """Folder of a scaling sweep, finished or not."""
    out: Path | None = None
    """Folder for table.md and the figures; none takes that of the sweep."""
    reference: str | None = None
    """Name of the family that the others are compared with; none takes the first one whose layers
    are all attention."""


def run(config: Config) -> None:
    """Writes table and figures, and prints what each family saves."""
    print(shown(write_table(config.folder, config.out, reference=config.reference)))


def shown(path: Path) -> str:
    """What a person wants of a table first, and where the rest is: every training."""
    return f"{path.read_text(encoding='utf-8').partition(RUNS)[0].rstrip()}\n\n{path}"
