"""What a folder is, and who is using it.

A command that is given a folder of another kind says which it is, and leaves it alone. One process
at a time is in a folder: the operating system drops the lock with the process, so a killed run
leaves none behind. On Windows, and on network file systems without locks, nobody is kept out.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RUN = "the folder of a run of `hyena train`"
CELL = "the folder of a cell of `hyena tasks run`"
SWEEP = "the folder of a sweep of `hyena tasks sweep`"
SCALING = "the folder of `hyena scaling run`"
TABLE = "the folder of a table of `hyena tasks table`"
DATA = "a folder of token files of `hyena prepare`"
CHECKPOINT = "a checkpoint of a run"
MODEL = "the folder of a saved model"

# In order: the first of which a folder has a file that matches one of the patterns.
_MARKS: dict[str, tuple[str, ...]] = {
    CHECKPOINT: ("training.json", "state.json"),
    RUN: ("train.yaml", "metrics.jsonl", "checkpoints/step-*/training.json"),
    CELL: ("result.json", "failed.txt", "checkpoints/step-*/state.json"),
    SWEEP: ("sweep.json",),
    SCALING: ("scaling.json",),
    DATA: ("manifest.json",),
    MODEL: ("config.json",),
    TABLE: ("results.json",),
}


def what_is(folder: Path) -> str | None:
    """The kind of a folder, in words; None if it is none of ours, empty or not there."""
    for kind, marks in _MARKS.items():
        if any(path.is_file() for mark in marks for path in folder.glob(mark)):
            return kind
    return None


def refuse_other(folder: Path, kind: str) -> None:
    """Refuses to use a folder of another kind as one of ``kind``.

    Raises: FileExistsError that says what it is, such as a file; it is left as it is.
    """
    for path in (folder, *folder.parents):
        if path.is_file():
            raise FileExistsError(f"{path} is a file; give a folder to --out (out=)")
    found = what_is(folder)
    if found not in (None, kind):
        raise FileExistsError(
            f"{folder} is {found}, which this command does not write to; choose another folder "
            "with --out (out=)"
        )


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
