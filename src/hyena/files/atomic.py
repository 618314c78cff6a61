"""Files that are either wholly there or not at all, whenever the process or the power dies.

`write_text` and `write_file` replace one file, `write_files` several of a folder. `write_folder`
makes a folder that has no rival, and `staged` one that may take the place of an older one.
Everything is forced to the disk before it gets its name.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from .folder import held

# A name that ends so is unfinished or on its way out, whatever it holds.
TEMPORARY = ".tmp"


def sync(path: Path) -> None:
    """Forces the content of a file, or the names in a folder, to the disk."""
    if path.is_dir() and os.name == "nt":  # Windows cannot open a folder, and needs no such call
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Forces all that is in a folder to the disk."""
    for entry in folder.rglob("*"):
        sync(entry)
    sync(folder)


def write_text(path: Path, text: str) -> None:
    """Replaces a file by UTF-8 text; see `write_files`."""
    write_file(path, lambda file: file.write_text(text, encoding="utf-8", newline="\n"))


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Replaces a file by what ``write`` writes to the path it is given; see `write_files`."""
    write_files(path.parent, {path.name: write})


def write_files(folder: Path, files: Mapping[str, Callable[[Path], object]]) -> None:
    """Replaces files of a folder, which is made if need be.

    All are written under temporary names first, so that a reader sees the old ones or the new ones,
    and never a part of one. Several are renamed one after the other: what a process leaves that is
    killed in between, `hyena.files.digests` finds.

    Args:
        folder: where they are.
        files: by name, what writes a file to the path it is given.

    Raises: whatever these raise, and OSError; the old files are intact then, and folders that this
        call made are gone.
    """
    temporary = {name: folder / (name + TEMPORARY) for name in files}
    new = [path for path in (folder, *folder.parents) if not path.exists()]  # the innermost first
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, write in files.items():
            write(temporary[name])
            sync(temporary[name])
        for name, path in temporary.items():
            os.replace(path, folder / name)
    except BaseException:
        for path in temporary.values():
            with contextlib.suppress(OSError):
                path.unlink()
        for path in new:
            with contextlib.suppress(OSError):  # it is not empty: somebody else has written there
                path.rmdir()
        raise
    sync(folder)


def write_folder(path: Path, write: Callable[[Path], object]) -> None:
    """Writes a folder of files under a temporary name, then renames it.

    Args:
        path: must not exist yet; its parent must.
        write: fills the folder it is given, which is empty.

    Raises: whatever ``write`` raises, and OSError; nothing is left behind then.
    """
    temporary = path.with_name(path.name + TEMPORARY)
    if temporary.exists():
        shutil.rmtree(temporary)
    try:
        temporary.mkdir()
        write(temporary)
        sync_tree(temporary)
        os.rename(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync(path.parent)


def _begins_anew(_: Path) -> bool:
    return False


@contextlib.contextmanager
def staged(directory: Path, *, goes_on: Callable[[Path], bool] = _begins_anew) -> Iterator[Path]:
    """A temporary sibling of ``directory`` that takes its place when the block ends well.

    Files in it are forced to the disk before the rename, so that after a crash ``directory`` is
    either what it was or what was written. If the block raises, the temporary folder is removed;
    what a killed run left is removed by the next one. A ``directory`` that exists is replaced.

    Args:
        directory: to be written.
        goes_on: says of the temporary folder, with what a run left in it, whether the next one can
            go on with that: it is kept then.

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
                for leftover in [] if goes_on(temporary) else temporary.iterdir():
                    remove(leftover)
            yield temporary
            with writing(directory):
                sync_tree(temporary)
                if directory.exists():
                    directory.rename(old)
                temporary.rename(directory)
                sync(directory.parent)
        except BaseException:
            if not goes_on(temporary):
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
        raise cannot_write(directory, error) from error


def cannot_write(directory: Path, error: OSError) -> OSError:
    """The error that says so, and why."""
    return OSError(
        f"cannot write {directory}: {error.strerror or error}; it is as it was before. Free "
        f"space or choose another folder"
    )


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


def remove_folder(path: Path) -> None:
    """Removes a folder so that a half-removed one never bears its name; of a link to one, the
    link."""
    doomed = path.with_name(path.name + TEMPORARY)
    os.rename(path, doomed)
    remove(doomed)


def remove_temporary(folder: Path, *names: str) -> None:
    """Removes what an interrupted write or removal of these names left in a folder.

    A name may be a pattern such as ``"step-*"``. What bears another one is somebody else's, and
    stays.
    """
    for name in names:
        for entry in folder.glob(name + TEMPORARY):
            remove(entry)


def remove(path: Path) -> None:
    """Removes a file, a link or a whole folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
