"""Hugging Face datasets as a source."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from hyena.files.digests import sha256_of

from .documents import Document, Piece
from .packages import require
from .pieces import in_pieces, whole
from .readers import JoinedRows
from .row import row
from .tally import Tally
from .text_fields import TextFields
from .verified import each_of


class DatasetPart(NamedTuple):
    """One of the ``files`` of a split of a dataset; all of the split if there is one alone."""

    split: str
    file: int = 0
    files: int = 1


class Dataset:
    """A Hugging Face dataset, streamed, with what `Files` offers.

    Needs the package ``datasets`` (extra ``data``).
    """

    def __init__(self, name: str, fields: TextFields) -> None:
        if not name:
            raise ValueError("'hf:' needs the name of a dataset, such as hf:Salesforce/wikitext")
        if fields.of_sequences is not None:
            raise ValueError(
                f"{fields.of_sequences} is about FASTA and FASTQ, which source 'hf:{name}' is not; "
                "leave it out"
            )
        require("datasets", f"source 'hf:{name}'", "hyena[data]")
        self._name, self._fields = name, fields
        self._revision: str | None = None  # of a dataset on the hub, once it is known
        self._known: Any = None  # what builds it, in this process
        self._streams: dict[str, Any] = {}
        self.notes: list[str] = []
        self.total_bytes = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_known": None, "_streams": {}}

    def describe(self) -> dict[str, Any]:
        """What identifies the source, as JSON: beside its name each of its files, by its revision
        on the hub, or here by its content."""
        return {
            "kind": "dataset",
            "name": self._name,
            "config": self._fields.dataset_config,
            "splits": list(self._fields.dataset_splits),
            "sha256": self._digest(),
        }

    def documents(self) -> Iterator[Document]:
        """The documents, in a fixed order."""
        return whole(self.pieces())

    def pieces(self) -> Iterator[Piece]:
        """The documents in pieces."""
        tally = Tally()
        for split in self._fields.dataset_splits:
            yield from self.pieces_of(DatasetPart(split), tally)
        self.check_read(tally)

    def parts(self, size: int) -> list[DatasetPart]:
        """The files of each split, as far as the dataset tells them apart, whatever their size; a
        split as a whole if rows are joined to documents."""
        splits = self._fields.dataset_splits
        if self._fields.document_start is not None:
            return [DatasetPart(split) for split in splits]
        counts = {split: getattr(self._stream(split), "num_shards", 1) for split in splits}
        return [
            DatasetPart(split, i, count) for split, count in counts.items() for i in range(count)
        ]

    def pieces_of(self, part: DatasetPart, tally: Tally) -> Iterator[Piece]:
        """The pieces of one of `parts`; ``tally`` gets what there is to say of it."""
        stream, file = self._stream(part.split), ""
        if part.files > 1:
            stream = stream.shard(num_shards=part.files, index=part.file)
            file = f" file {part.file + 1} of {part.files}"
        found = (
            row(record, self._fields.field, f"{self._name} {part.split}{file} row {i}", part.split)
            for i, record in enumerate(stream)
        )
        for document in JoinedRows(self._fields.document_start).join(found, tally):
            yield from in_pieces(self._fields.cased(document))

    def check(self) -> None:
        """Raises nothing: a dataset has no kinds."""

    def check_read(self, tally: Tally) -> None:
        """Raises ValueError if a setting found nothing in all parts, of which this is the sum."""
        JoinedRows(self._fields.document_start).check(tally)

    def _digest(self) -> str:
        """Of all files: name and SHA-256 of those that are here, of others what tells versions
        apart, such as the revision, which is in a name of the hub's."""
        digest = hashlib.sha256()
        for split, files in sorted((self._builder().config.data_files or {}).items()):
            here = [Path(file) for file in files if Path(file).is_file()]
            contents = dict(zip(map(str, here), each_of(sha256_of, here), strict=True))
            for file, version in zip(files, files.origin_metadata, strict=True):
                content = contents.get(file)
                told = (file, *version) if content is None else (Path(file).name, content)
                digest.update("\0".join((str(split), *map(str, told))).encode() + b"\n")
        return digest.hexdigest()

    def _builder(self) -> Any:
        """What builds the dataset; found once a process, and on the hub of one revision in all."""
        from datasets import load_dataset_builder  # type: ignore[import-not-found, import-untyped, unused-ignore]

        if self._known is None:
            config = self._fields.dataset_config
            self._known = load_dataset_builder(self._name, config, revision=self._revision)
            found = (self._known.config.data_files or {}).values()
            if any(f"@{self._known.hash}/" in file for files in found for file in files):
                self._revision = self._known.hash
        return self._known

    def _stream(self, split: str) -> Any:
        if split not in self._streams:
            self._streams[split] = self._builder().as_streaming_dataset(split=split)
        return self._streams[split]
