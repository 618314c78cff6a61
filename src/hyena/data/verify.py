"""Reads all files of a prepared data set: `verify`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hyena.files import digests

from .stores import Disk, find_store
from .token_file import open_tokens, read_manifest
from .verified import each_of, remember, state_of

Report = Callable[[int, int], None]
"""Called after each file with the files that have been read, and with their number in all."""


@dataclass(frozen=True)
class Verified:
    """What `verify` found.

    Attributes:
        files: number of files that there should be.
        bytes: size of those that are there.
        damaged: why a file is not what was written, by its name.
    """

    files: int
    bytes: int
    damaged: dict[str, str]


def verify(directory: str | Path, *, progress: Report | None = None) -> Verified:
    """Reads every file of a folder that `prepare` wrote, and compares it with what was written.

    The manifest has the SHA-256 of each file of a split, and ``SHA256SUMS`` that of each other
    file, of the manifest too.

    Args:
        directory: the folder, or the URL of a copy of it.
        progress: is told how far the reading is.

    Raises: FileNotFoundError if there is no such folder; ValueError if the manifest is damaged, or
        all files are as they were written and yet do not fit together; OSError if a file cannot be
        read.
    """
    store = find_store(directory)
    manifest = read_manifest(store)
    with store.told():
        expected = digests.listed(store.path)
    for record in manifest.splits.values():
        expected |= record.sha256
    sizes = store.sizes(sorted(expected))
    there = list(sizes)
    on_disk = isinstance(store, Disk)
    states = {name: state_of(store.path / name, expected[name]) for name in there if on_disk}
    damaged = {name: "it is missing" for name in sorted(expected) if name not in sizes}
    for i, (name, digest) in enumerate(zip(there, each_of(store.sha256, there), strict=True)):
        if digest != expected[name]:
            damaged[name] = "its SHA-256 is not the one that was written down"
        if progress is not None:
            progress(i + 1, len(there))
    if not damaged:
        for split in manifest.splits:
            open_tokens(store, split, verify=False)
    good = {name: state for name, state in states.items() if name not in damaged}
    remember(store.path, good, of=states)
    return Verified(len(expected), sum(sizes.values()), damaged)
