"""A folder that appears whole or not at all, or takes the place of an older one: `staged`.

Where the folder is new and has no rival, `hyena.files.atomic.write_folder` does.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from .atomic import remove, sync, sync_tree
from .folder import held


@contextlib.contextmanager
def staged(directory: Path) -> Iterator[Path]:
    """A temporary sibling of ``directory`` that takes its place when the block ends well.

    Files in it are forced to the disk before the rename, so that after a crash ``directory`` is
    either what it was or what was written. If the block raises, the temporary folder is removed;
    what a killed run left is removed by the next one. A ``directory`` that exists is replaced.

    Raises: RuntimeError if another process is writing it; OSError if it cannot be written.
    """
    directory = directory.resolve()
    temporary, old = _sibling(directory, "partial"), _sibling(directory, "old")
    recover(directory)
    with writing(directory):
        temporary.mkdir(parents=True, exist_ok=True)
    taken = f"another process is writing {directory}; wait for it or choose another folder"
    # Windows cannot open folders: two writers are not told apart there.
    with contextlib.nullcontext() if os.name == "nt" else held(temporary, os.O_RDONLY, taken):
        try:
            with writing(directory):
                for leftover in temporary.iterdir():
                    remove(leftover)
            yield temporary
            with writing(directory):
                sync_tree(temporary)
                if directory.exists():
                    directory.rename(old)
                temporary.rename(directory)
                sync(directory.parent)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            recover(directory)
            raise
    shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def writing(directory: Path) -> Iterator[None]:
    """Says of an OSError inside the block that ``directory`` cannot be written, and why."""
    try:
        yield
    except OSError as error:
        raise OSError(
            f"cannot write {directory}: {error.strerror or error}; it is as it was before. Free "
            f"space or choose another folder"
        ) from error


def recover(directory: Path) -> None:
    """Undoes a replacement that was cut off between its two renames.

    Raises: OSError if ``directory`` cannot be written.
    """
    directory = directory.resolve()
    old = _sibling(directory, "old")
    with writing(directory):
        if directory.exists():
            shutil.rmtree(old, ignore_errors=True)
        elif old.exists():
            old.rename(directory)


def _sibling(directory: Path, what: str) -> Path:
    return directory.parent / f".{directory.name}.{what}"
