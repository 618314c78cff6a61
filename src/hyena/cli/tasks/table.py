"""`hyena tasks table`: what sweeps have found."""

from dataclasses import dataclass, field
from pathlib import Path

from hyena.experiments import write_table
from hyena.experiments.table import RUNS

POSITIONAL = "folder"


@dataclass
class Config:
    """Which sweeps, and where to."""

    folder: Path
    """Folder of a sweep, finished or not, or of a table that was made of one."""
    more: list[Path] = field(default_factory=list)
    """Further folders whose rows and columns belong to the same table."""
    out: Path | None = None
    """Folder for table.md, results.json and the figures; none takes the first one."""


def run(config: Config) -> None:
    """Writes table, figures and records, and prints the figures of the table."""
    out = config.folder if config.out is None else config.out
    path = write_table([config.folder, *config.more], out)
    print(shown(path))


def shown(path: Path) -> str:
    """What a person wants of a table first, and where the rest is: what each figure took."""
    return f"{path.read_text(encoding='utf-8').partition(RUNS)[0].rstrip()}\n\n{path}"
