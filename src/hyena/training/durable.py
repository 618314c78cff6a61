"""Files that are either wholly there or not at all, whenever the process or the power dies."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

# A name that ends so is unfinished or on its way out, whatever it holds.
TEMPORARY = ".tmp"


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    if os.name == "nt":  # Windows cannot open a folder, and needs no such call
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make the content of a file durable."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    """Replace a file: a reader sees the old content or the new one, never a part.

    Raises: OSError if it cannot be written; the old file is intact then.
    """
    temporary = path.with_name(path.name + TEMPORARY)
    try:
        temporary.write_text(text, encoding="utf-8")
        sync_file(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_folder(path: Path, write: Callable[[Path], None]) -> None:
    """Write a folder of files under a temporary name, then rename it.

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
        folders = [temporary]
        for entry in temporary.rglob("*"):
            if entry.is_dir():
                folders.append(entry)
            else:
                sync_file(entry)
        for folder in reversed(folders):
            sync_folder(folder)
        os.rename(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(path.parent)


def remove_folder(path: Path) -> None:
    """Remove a folder so that a half-removed one never bears its name."""
    doomed = path.with_name(path.name + TEMPORARY)
    os.rename(path, doomed)
    shutil.rmtree(doomed)


def remove_temporary(folder: Path) -> None:
    """Remove what an interrupted write or removal left in a folder."""
    for entry in folder.glob(f"*{TEMPORARY}"):
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            with contextlib.suppress(FileNotFoundError):
                entry.unlink()
