"""One process at a time in a folder: `locked`.

The operating system drops the lock with the process, so a killed run leaves none behind. On
Windows, and on network file systems without locks, nobody is kept out.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FILE = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes that ask for it out of a folder, which is made if need be.

    A folder that was made for it, and in which nothing has been written when the block raises, is
    removed again.

    Raises: RuntimeError if another process holds it; OSError if the folder cannot be written.
    """
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    taken = f"another run is using {folder}; wait for it or stop it first"
    with held(folder / FILE, os.O_WRONLY | os.O_CREAT, taken):
        try:
            yield
        except BaseException:
            if new and [path.name for path in folder.iterdir()] == [FILE]:
                with contextlib.suppress(OSError):
                    (folder / FILE).unlink()
                    folder.rmdir()
            raise


@contextmanager
def held(path: Path, flags: int, taken: str) -> Iterator[None]:
    """Opens a file or folder and locks it meanwhile.

    Raises: RuntimeError, with the message ``taken``, if another process holds it.
    """
    descriptor = os.open(path, flags, 0o666)
    try:
        _lock(descriptor, taken)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, taken: str) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise RuntimeError(taken) from error
    except OSError as error:
        # The run is as safe there as it was without locks.
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
