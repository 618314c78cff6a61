"""Reads all files of a prepared data set: `verify`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hyena.files import digests

from .token_file import open_tokens, read_manifest
from .verified import digests_of, remember, state_of

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

    Raises: FileNotFoundError if there is no such folder; ValueError if the manifest is damaged, or
        all files are as they were written and yet do not fit together; OSError if a file cannot be
        read.
    """
    folder = Path(directory)
    manifest = read_manifest(folder)
    expected = digests.listed(folder)
    for record in manifest.splits.values():
        expected |= record.sha256
    there = [name for name in sorted(expected) if (folder / name).is_file()]
    states = {name: state_of(folder / name, expected[name]) for name in there}
    damaged = {name: "it is missing" for name in sorted(expected) if name not in states}
    for i, (name, digest) in enumerate(
        zip(there, digests_of(folder / name for name in there), strict=True), start=1
    ):
        if digest != expected[name]:
            damaged[name] = "its SHA-256 is not the one that was written down"
        if progress is not None:
            progress(i, len(there))
    if not damaged:
        for split in manifest.splits:
            open_tokens(folder, split, verify=False)
    good = {name: state for name, state in states.items() if name not in damaged}
    remember(folder, good, of=states)
    return Verified(len(expected), sum(size for _, size, *_ in states.values()), damaged)
