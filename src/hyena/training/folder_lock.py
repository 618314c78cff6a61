"""One process at a time in a folder."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FILE = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes that ask for it out of a folder, which is made if need be.

    The operating system drops the lock with the process, so a killed run leaves none behind. On
    Windows, and on network file systems without locks, nobody is kept out.

    Raises: RuntimeError if another process holds it; OSError if the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / FILE, "w") as file:
        _lock(file.fileno(), folder)
        yield


def _lock(descriptor: int, folder: Path) -> None:
    """Held until the file is closed or the process dies."""
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise RuntimeError(
            f"another run is using {folder}; wait for it or stop it first"
        ) from error
    except OSError as error:
        # The run is as safe there as it was without locks.
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
