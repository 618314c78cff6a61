"""Results kept one by one beside an output that is whole or not there.

``OUT.partial`` is a folder with what there is so far; when all is there, OUT is written from it and
it is removed. A command that was interrupted finds it, and goes on.

| file | content |
|---|---|
| ``work.json`` | what the results are of: they are gone on with for the same work alone |
| ``entries.jsonl`` | a line an input: its rows, the bytes of its vectors, and a digest |
| ``vectors.bin`` | the vectors, bare numbers one after the other |

A digest is the SHA-256 of the one before, of the rest of its line, and of the vectors. So an entry
that was changed is told, and one that lacks between others; what comes after it is not gone on with
either.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from hyena.files import folder as folders
from hyena.files.atomic import TEMPORARY, remove, remove_folder
from hyena.files.records import read_versioned, write_record

ENDING = ".partial"
FORMAT_VERSION = 1
_WORK, _ENTRIES, _VECTORS = "work.json", "entries.jsonl", "vectors.bin"
_ENTRY = re.compile(rb'\{"sha256": "([0-9a-f]{64})", ("bytes": (\d{1,18}), "rows": .*\}\n)')
_BLOCK = 1 << 20  # bytes of vectors that are read at a time


class Journal:
    """What there is so far of an output; opened by `journal`.

    Attributes:
        folder: where it is.
        done: inputs whose results are there.
        lost: later ones whose results were there, but half-written or changed; they are cut off.
        vectors: the file of their vectors, which need not be there if there are none.
    """

    def __init__(self, folder: Path, work: Mapping[str, Any]) -> None:
        self.folder, self._work = folder, dict(work)
        self.vectors = folder / _VECTORS
        self._files: tuple[IO[bytes], IO[bytes]] | None = None
        self._digest = b""  # of the last entry
        self._check()
        self.done, self.lost = self._recovered()

    def append(
        self, rows: Sequence[Mapping[str, Any]], vectors: NDArray[Any] | None = None
    ) -> None:
        """The results of one more input. Raises: OSError, in one line, if the disk is full."""
        content = np.ascontiguousarray(() if vectors is None else vectors).reshape(-1)
        # The line without its digest, which covers it.
        rest = json.dumps({"bytes": content.nbytes, "rows": list(rows)}).encode()[1:] + b"\n"
        digest = hashlib.sha256(self._digest + rest)
        digest.update(content.data)
        found = digest.hexdigest().encode()
        try:
            if self._files is None:
                self._files = self._opened()
            entries, arrays = self._files
            if content.nbytes:
                arrays.write(content.data)
                arrays.flush()  # before the line that counts them
            entries.write(b'{"sha256": "' + found + b'", ' + rest)
            entries.flush()
        except OSError as error:
            raise OSError(
                f"{self.folder} cannot be written: {error.strerror or error}; free space"
            ) from error
        self.done, self._digest = self.done + 1, found

    def rows(self) -> Iterator[dict[str, Any]]:
        """All rows, in order."""
        file = self.folder / _ENTRIES
        if not file.is_file():
            return
        with file.open("rb") as stream:
            for line in stream:
                yield from json.loads(line)["rows"]

    def close(self) -> None:
        """Closes the files; nothing can be appended any longer."""
        for file in self._files or ():
            with suppress(OSError):  # which `append` has raised: all else is written
                file.close()

    def _opened(self) -> tuple[IO[bytes], IO[bytes]]:
        """Not before there is something to write, so that an early error leaves nothing."""
        work = self.folder / _WORK
        if not work.is_file():
            write_record(work, self._work, FORMAT_VERSION)
        return (self.folder / _ENTRIES).open("ab"), self.vectors.open("ab")

    def _check(self) -> None:
        """Raises FileExistsError if the folder holds something else than results of this work."""
        file = self.folder / _WORK
        advice = f"remove {self.folder}, or choose another file with --out (out=)"
        if not file.is_file():
            known = {folders.FILE, _WORK + TEMPORARY}
            if others := sorted({path.name for path in self.folder.iterdir()} - known):
                raise FileExistsError(
                    f"{self.folder} holds {others[0]}, which is none of this command's; {advice}"
                )
            return
        there, work = read_versioned(file, FORMAT_VERSION, advice=advice), self._work
        differences = [
            f"{name} was {there.get(name)!r}, is {work.get(name)!r}"
            for name in sorted(there.keys() | work.keys())
            if there.get(name) != work.get(name)
        ]
        if differences:
            raise FileExistsError(
                f"{self.folder} holds the beginning of other results: "
                f"{'; '.join(differences):.300}; {advice}"
            )

    def _recovered(self) -> tuple[int, int]:
        """The number of inputs whose results are whole, and that of the lines after them, which are
        cut off."""
        file = self.folder / _ENTRIES
        if not file.is_file():
            return 0, 0
        self.vectors.touch()
        done = lost = end = used = 0
        with file.open("rb") as entries, self.vectors.open("rb") as arrays:
            for line in entries:
                digest = None if lost else self._digest_of(line, arrays)
                if digest is None:
                    lost += 1
                    continue
                self._digest = digest
                done, end, used = done + 1, end + len(line), arrays.tell()
        os.truncate(file, end)
        os.truncate(self.vectors, used)
        return done, lost

    def _digest_of(self, line: bytes, arrays: IO[bytes]) -> bytes | None:
        """The digest of an entry, if it is as `append` wrote it after the last one; its vectors are
        read."""
        entry = _ENTRY.fullmatch(line)
        if entry is None:
            return None
        digest, left = hashlib.sha256(self._digest + entry[2]), int(entry[3])
        while left and (block := arrays.read(min(left, _BLOCK))):
            digest.update(block)
            left -= len(block)
        found = digest.hexdigest().encode()
        return found if found == entry[1] and not left else None


@contextmanager
def journal(out: Path, work: Mapping[str, Any]) -> Iterator[Journal]:
    """The results so far of an output that is to be written in the block from all of them.

    When the block ends well they are removed; when it raises they stay, if there are any.

    Args:
        out: the file that is to be written.
        work: what the results are of, as JSON.

    Raises: FileExistsError if the file is there already, or results of other work; RuntimeError if
        another process is at it; OSError if the folder cannot be written.
    """
    folder = out.with_name(out.name + ENDING)
    with folders.locked(folder):
        if out.exists():  # not asked before: another process may just have written it
            raise FileExistsError(
                f"{out} is there already; remove it, or choose another file with --out (out=)"
            )
        remove(folder.with_name(folder.name + TEMPORARY))  # of a removal that was killed
        kept = Journal(folder, work)
        try:
            yield kept
        finally:
            kept.close()
    remove_folder(folder)


def state_of(path: Path) -> str:
    """Of a file or a folder what changes when something in it is written: 16 hexadecimal digits of
    a digest of names, sizes and times.
    """
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        if file.is_file() and file.parent.suffix != ENDING:  # which an output in the folder has
            status = file.stat()
            line = [str(file.relative_to(path)), status.st_size, status.st_mtime_ns]
            digest.update(json.dumps(line).encode())
    return digest.hexdigest()[:16]
