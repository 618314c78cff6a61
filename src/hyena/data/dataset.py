"""Hugging Face datasets as a source."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from .documents import Document, Piece
from .packages import require
from .pieces import in_pieces, whole
from .readers import JoinedRows
from .row import row
from .tally import Tally
from .text_fields import TextFields


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
        self.notes: list[str] = []
        self.total_bytes = None

    def describe(self) -> dict[str, Any]:
        splits = list(self._fields.dataset_splits)
        config = self._fields.dataset_config
        return {"kind": "dataset", "name": self._name, "config": config, "splits": splits}

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

    def _stream(self, split: str) -> Any:
        from datasets import load_dataset  # type: ignore[import-not-found, import-untyped, unused-ignore]

        return load_dataset(self._name, self._fields.dataset_config, split=split, streaming=True)
