"""`hyena data verify`: whether the files of a prepared data set are what was written."""

from dataclasses import dataclass

from hyena.arguments import plural
from hyena.cli.bar import bar
from hyena.data import verify

POSITIONAL = "data"


@dataclass
class Config:
    """What to read."""

    data: str
    """A folder that `hyena prepare` wrote, or the URL of a copy of it."""


def run(config: Config) -> None:
    """Prints each file that is damaged.

    Raises: ValueError that names the first ones, if there are any.
    """
    with bar("files") as report:
        found = verify(config.data, progress=report)
    for name, why in found.damaged.items():
        print(f"{name}: {why}")
    if found.damaged:
        names = ", ".join(list(found.damaged)[:3]) + (", ..." if len(found.damaged) > 3 else "")
        raise ValueError(
            f"{len(found.damaged):,} of {found.files:,} {plural(found.files, 'file')} of "
            f"{config.data} {plural(len(found.damaged), 'is', 'are')} not as written: {names}; "
            "restore the folder from a copy, or make it again with `hyena prepare`"
        )
    size = f"{found.bytes:,} {plural(found.bytes, 'byte')}"
    print(f"{config.data}: {found.files:,} {plural(found.files, 'file')} as written, {size}")
