"""``SHA256SUMS``: what the files of a folder were when they were written.

A line a file, as ``sha256sum`` writes it, so that ``sha256sum -c SHA256SUMS`` checks a folder too.
A folder without the list, which an older version wrote, is read unchecked.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from . import atomic

FILE = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")


def sha256_of(file: Path) -> str:
    """Hexadecimal SHA-256 of a file, read in blocks."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_files(folder: Path, files: Mapping[str, Callable[[Path], object]]) -> None:
    """Replaces files of a folder, as `hyena.files.atomic.write_files`, and with them its list."""

    def write_list(path: Path) -> None:
        written = {name: path.with_name(name + atomic.TEMPORARY) for name in files}
        path.write_text(_text({name: sha256_of(file) for name, file in written.items()}))

    atomic.write_files(folder, {**files, FILE: write_list})


def complete(folder: Path, *known: Mapping[str, str]) -> None:
    """Lists all files of a folder that nobody reads yet.

    Args:
        folder: where they are.
        known: digests by name that need not be computed, as those in an earlier list need not.
    """
    found = {name: digest for some in (listed(folder), *known) for name, digest in some.items()}
    for file in sorted(folder.iterdir()):
        if file.is_file() and file.name != FILE and file.name not in found:
            found[file.name] = sha256_of(file)
    (folder / FILE).write_text(_text(found))


def cut_off(folder: Path) -> str:
    """What to do if a write of several files was killed between its renames; else empty.

    All of them were on the disk before the first got its name, so none is lost.
    """
    listed_then = folder / (FILE + atomic.TEMPORARY)
    try:
        new = _read(listed_then)
    except (OSError, ValueError):  # killed before the renames: the old files are whole
        return ""
    for name, digest in new.items():
        places = (folder / name, folder / (name + atomic.TEMPORARY))
        if not any(file.is_file() and sha256_of(file) == digest for file in places):
            return ""
    return (
        f"a write was cut off when all was there: rename the files of {folder} that end in "
        f"{atomic.TEMPORARY} to their names without it"
    )


def check(folder: Path, names: Iterable[str] | None = None, *, advice: str) -> None:
    """Refuses files that are not what was written.

    Args:
        folder: where they are.
        names: of those to be checked; without them all of the list. A folder without a list is
            passed over.
        advice: what to do.

    Raises: ValueError, in one line, if one is damaged, missing or not listed, or the list is
        damaged.
    """
    known = listed(folder)
    for name in known if names is None else names:
        file = folder / name
        if name not in known:
            if known and file.is_file():
                raise ValueError(
                    f"{folder / FILE} does not list {name}, so it is another folder's; "
                    f"{cut_off(folder) or advice}"
                )
            continue
        if not file.is_file():
            raise ValueError(
                f"{file} is missing, though {FILE} lists it; {cut_off(folder) or advice}"
            )
        if sha256_of(file) != known[name]:
            advice = f"{advice} (if the change was yours, remove {FILE})"
            raise ValueError(
                f"{file} is damaged: its SHA-256 is not that in {FILE}; {cut_off(folder) or advice}"
            )


def listed(folder: Path) -> dict[str, str]:
    """The list of a folder, by name; empty if there is none.

    Raises: ValueError, in one line, if it is damaged.
    """
    file = folder / FILE
    return _read(file) if file.is_file() else {}


def _read(file: Path) -> dict[str, str]:
    found = {}
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        match = _LINE.fullmatch(line)
        if match is None or "/" in match[2]:
            raise ValueError(f"{file} is damaged: {line!r:.60}; restore it from a copy")
        found[match[2]] = match[1]
    if not found:
        raise ValueError(f"{file} is damaged: it is empty; restore it from a copy")
    return found


def _text(digests: Mapping[str, str]) -> str:
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
