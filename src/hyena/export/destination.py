"""Where an exported file goes, looked at before the minutes of work for it."""

import os
from pathlib import Path

from hyena.arguments import shown


def destination(what: str, path: str | Path, ending: str) -> Path:
    """The path of a file that can be written, with this ending.

    Raises, each in one line that begins with ``what``: TypeError if it is no path; ValueError on
        another ending; FileNotFoundError without its folder; IsADirectoryError on a folder of that
        name; PermissionError if it may not be written.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"{what}: expected a path that ends in {ending}, got {shown(path)}")
    file = Path(path)
    if file.suffix != ending:
        raise ValueError(f"{what}: expected a path that ends in {ending}, got {file}")
    if not file.parent.is_dir():
        raise FileNotFoundError(
            f"{what}: there is no folder {file.parent} for {file.name}; make it"
        )
    if file.is_dir():
        raise IsADirectoryError(f"{what}: {file} is a folder; give the path of a file")
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        raise PermissionError(f"{what}: {file} may not be written; choose another path")
    return file
