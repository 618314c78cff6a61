"""Where an exported file goes, looked at before the minutes of work for it, and how it gets
there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from hyena.arguments import shown
from hyena.files.atomic import sync


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
    if not all(os.access(place, os.W_OK) for place in (file.parent, file) if place.exists()):
        raise PermissionError(f"{what}: {file} may not be written; choose another path")
    return file


@contextmanager
def replacing(file: Path, *beside: Path) -> Iterator[Path]:
    """A path of the file's name in a folder of its own, for writing. What is there when the block
    ends well takes the places of the older ``file`` and of those ``beside`` it; else they stay.

    Raises: OSError if it cannot be written.
    """
    with TemporaryDirectory(dir=file.parent, prefix=f".{file.name}.") as folder:
        yield Path(folder, file.name)
        made = sorted(Path(folder).iterdir(), key=lambda path: path.name == file.name)
        for path in made:  # the file itself at last, when what it names is there
            sync(path)
            os.replace(path, file.parent / path.name)
        for path in beside:
            if path.name not in {new.name for new in made}:
                path.unlink(missing_ok=True)
    sync(file.parent)
