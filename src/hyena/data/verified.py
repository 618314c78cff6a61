"""Whether the files of a prepared data set are what was written.

Reading a data set of terabytes takes hours, so what was compared once is not read again as long as
its size, the time of its last write and its number in the file system are the same. A copy has
another number, so it is read once. Bits that change on the disk by themselves change none of the
three: `hyena.data.verify` reads everything, whatever is remembered.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from hyena.files import atomic
from hyena.files.digests import sha256_of

VERIFIED_FILE = ".verified.json"
"""In a folder of token files: the files that have been compared, and how each of them was then."""

REMEMBERED_FROM = 1 << 30
"""Bytes of a split from where on it pays to remember what was compared: a second of reading."""

_FRESH = 2 * 10**9  # nanoseconds in which a file may be written twice with one time of its write

File = TypeVar("File")
State = list[Any]  # the digest that was found; size, time of the last write and number of the file


def check_written(
    folder: Path, expected: Mapping[str, str], damaged: Callable[[Path, str], Exception]
) -> None:
    """Refuses files that are not what was written, those that are missing apart.

    Args:
        folder: where they are.
        expected: their SHA-256, by name.
        damaged: makes the error, of a file and why it is damaged.

    Raises: what ``damaged`` makes, of the first such file; OSError if one cannot be read.
    """
    there = [name for name in expected if (folder / name).is_file()]
    states = {name: state_of(folder / name, expected[name]) for name in there}
    before = remembered(folder, states)
    unread = [name for name in there if before.get(name) != states[name]]
    found = each_of(lambda name: sha256_of(folder / name), unread)
    for name, digest in zip(unread, found, strict=True):
        if digest != expected[name]:
            raise damaged(folder / name, "its SHA-256 is not the manifest's")
    remember(folder, {name: states[name] for name in unread}, of=states)


def each_of(digest_of: Callable[[File], str], files: Iterable[File]) -> Iterator[str]:
    """The digest of each file, of several at a time."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        yield from threads.map(digest_of, files)


def state_of(file: Path, digest: str) -> State:
    """A file whose SHA-256 this is, or ought to be."""
    status = file.stat()
    return [digest, status.st_size, status.st_mtime_ns, status.st_ino]


def remembered(folder: Path, of: Mapping[str, State]) -> dict[str, Any]:
    """What was compared before; nothing if the files ``of`` a split are small enough to be read."""
    if sum(size for _, size, *_ in of.values()) < REMEMBERED_FROM:
        return {}
    with contextlib.suppress(OSError, ValueError, RecursionError):  # then all is read again
        content = json.loads((folder / VERIFIED_FILE).read_bytes())
        if isinstance(content, dict):
            return content
    return {}


def remember(folder: Path, compared: Mapping[str, State], *, of: Mapping[str, State]) -> None:
    """Notes files that were found to be what was written, but for those written just now."""
    now = time.time_ns()
    settled = {name: state for name, state in compared.items() if state[2] < now - _FRESH}
    if not settled or sum(size for _, size, *_ in of.values()) < REMEMBERED_FROM:
        return
    with contextlib.suppress(OSError):  # of a folder that cannot be written: it is read again
        text = json.dumps({**remembered(folder, of), **settled}, indent=1) + "\n"
        atomic.write_text(folder / VERIFIED_FILE, text)
