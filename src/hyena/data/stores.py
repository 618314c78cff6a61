"""Where a prepared data set is: on a disk, or in a store that fsspec reaches, such as S3.

Of a store the small files are copied to a temporary folder when it is opened, the manifest, the
tokenizer and the tables of the split; of the tokens only what is asked for is ever read. A network
file system is a disk here: it has paths.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyena.files.digests import sha256_of

from .packages import require

_URL = re.compile(r"((?:[a-z][a-z0-9+.-]+::)*)([a-z][a-z0-9+.-]+):/+(.*)", re.DOTALL)
_SMALL = (".json", "SHA256SUMS")  # how the names of manifest, tokenizer and digests end


def find_store(place: str | Path | Disk | Remote) -> Disk | Remote:
    """The folder of a path, or of a URL, also of one that was made a path of, as ``s3:/b/x``; one
    that was found already is given back.

    Raises: ImportError if the packages for the URL are not installed; ValueError if nothing is
        known of its kind.
    """
    if isinstance(place, Disk | Remote):
        return place
    url = url_of(place)
    if url is None:
        return Disk(Path(place))
    return Disk(Path(url.removeprefix("file://"))) if url.startswith("file://") else Remote(url)


def url_of(place: str | Path) -> str | None:
    """The URL that a place is; None if it is a path. A letter with a colon is a drive."""
    found = _URL.fullmatch(str(place)) if isinstance(place, str | Path) else None
    if found is None or Path(place).exists():
        return None
    slashes = "///" if found[2] == "file" else "//"  # a path in it begins at the root
    return f"{found[1]}{found[2]}:{slashes}{found[3]}"


class Disk:
    """A folder on a disk.

    Attributes:
        shown: what it is called.
        path: where its small files are: here.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.shown = path, str(path)

    def fetch(self, tables: Iterable[str] = ()) -> None:
        """Makes sure that the small files and these tables are there: on a disk they are."""

    @contextmanager
    def told(self) -> Iterator[None]:
        """Lets errors name the folder: on a disk they do."""
        yield

    def sizes(self, names: Iterable[str]) -> dict[str, int]:
        """The bytes of the files that are there."""
        files = {name: self.path / name for name in names}
        return {name: file.stat().st_size for name, file in files.items() if file.is_file()}

    def sha256(self, name: str) -> str:
        """Of a file, which is read."""
        return sha256_of(self.path / name)

    def tokens(self, name: str, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
        """The tokens in a file, (count,), memory-mapped, read-only."""
        return np.memmap(self.path / name, dtype=dtype, mode="r", shape=(count,))


class Remote:
    """A folder in a store; attributes and methods as those of `Disk`.

    It can be handed to other processes, each of which connects to the store by itself.
    """

    def __init__(self, url: str) -> None:
        require("fsspec", f"data at {url}", "hyena[data]")
        self.url = self.shown = url.rstrip("/")
        self.path = Path(tempfile.mkdtemp(prefix="hyena-data-"))
        weakref.finalize(self, _remove, self.path, os.getpid())
        self._process = 0
        self._connect()

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url, "shown": self.shown, "path": self.path, "_process": 0}

    def fetch(self, tables: Iterable[str] = ()) -> None:
        system, root = self._connect()
        wanted = set(tables)
        for name in self._all():
            small = name.endswith(_SMALL) or name in wanted
            if small and not (self.path / name).exists():
                (self.path / name).write_bytes(system.cat_file(f"{root}/{name}"))

    @contextmanager
    def told(self) -> Iterator[None]:
        try:
            yield
        except (ValueError, FileNotFoundError) as error:
            raise type(error)(str(error).replace(str(self.path), self.shown)) from error

    def sizes(self, names: Iterable[str]) -> dict[str, int]:
        there = self._all()
        return {name: there[name] for name in names if name in there}

    def sha256(self, name: str) -> str:
        system, root = self._connect()
        digest = hashlib.sha256()
        with system.open(f"{root}/{name}", "rb") as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
        return digest.hexdigest()

    def tokens(self, name: str, dtype: np.dtype[Any], count: int) -> RemoteTokens:
        """The tokens in a file, (count,), read by slices."""
        return RemoteTokens(self, name, dtype, count)

    def read(self, name: str, start: int, end: int) -> bytes:
        """Bytes of a file. Raises: OSError if there are fewer."""
        system, root = self._connect()
        data: bytes = system.cat_file(f"{root}/{name}", start=start, end=end)
        if len(data) != end - start:
            raise OSError(
                f"{self.url}/{name}: bytes {start} to {end} were asked for, but {len(data)} came"
            )
        return data

    def _all(self) -> dict[str, int]:
        system, root = self._connect()
        try:
            found = system.ls(root, detail=True)
        except FileNotFoundError:
            return {}
        return {entry["name"].rsplit("/", 1)[-1]: entry["size"] or 0 for entry in found}

    def _connect(self) -> tuple[Any, str]:
        if self._process != os.getpid():  # a connection must not be shared with another process
            import fsspec

            self._system, root = fsspec.core.url_to_fs(self.url)
            self._root, self._process = root.rstrip("/"), os.getpid()
        return self._system, self._root


def _remove(folder: Path, process: int) -> None:
    """Removes a temporary folder, if this is the process that made it."""
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)


class RemoteTokens:
    """The tokens of a file in a store: each slice is read when it is asked for."""

    def __init__(self, store: Remote, name: str, dtype: np.dtype[Any], count: int) -> None:
        self._store, self._name, self.dtype, self._count = store, name, dtype, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place: slice) -> NDArray[Any]:
        start, stop, _ = place.indices(self._count)
        width = self.dtype.itemsize
        data = self._store.read(self._name, start * width, max(start, stop) * width)
        return np.frombuffer(data, dtype=self.dtype)
