"""Writes token files, part by part of the source.

The split of a document may depend on all others, such as their number; so the tokens of a part go
into files of its own first, and into the shards of the splits when all parts are there. Both are
finished part by part, so that a run that was killed goes on with what is missing.
"""

from __future__ import annotations

import dataclasses
import hashlib
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from hyena.files.atomic import remove, sync
from hyena.files.digests import sha256_of
from hyena.files.records import read_record, write_record

from .documents import SPLITS, TokenPiece, WithoutText
from .tally import Tally
from .token_file import documents_file, masked_file, token_dtype, tokens_file

Record = TypeVar("Record")

_VERSION = 1
_BLOCK = 1 << 22  # bytes copied at a time
_BUFFER = 1 << 20  # bytes that are written at a time, of documents that may be short


class Spool:
    """Collects the tokenised documents of a part in a new file, in order.

    Attributes: ``total_bytes`` of text so far, the document that is not whole yet included.

    Args:
        file: to write.
        masks: whether some tokens may be no targets.
        hashes: whether documents have digests.
    """

    def __init__(
        self, file: Path, vocab_size: int, end_of_text: int, *, masks: bool, hashes: bool
    ) -> None:
        self.file = file
        self.total_bytes = 0
        self._dtype = token_dtype(vocab_size)
        self._end = np.asarray([end_of_text], dtype=self._dtype).tobytes()
        self._stream = file.open("wb", buffering=_BUFFER)
        self._lengths, self._bytes = array("q"), array("q")  # of each document
        self._origins = bytearray()  # the split each came from
        self._digests = bytearray() if hashes else None
        self._masked = array("q") if masks else None  # where runs that are no targets begin and end
        self._written = 0  # tokens
        self._length = self._n_bytes = 0  # of the document that is not whole yet

    def __len__(self) -> int:
        """Number of whole documents."""
        return len(self._lengths)

    def add(self, piece: TokenPiece) -> None:
        """Appends a part of a document, the first one after its end_of_text."""
        if not self._length:
            self._stream.write(self._end)
            self._length = 1
            self._written += 1
        if self._masked is not None and piece.masked is not None:
            _add_runs(self._masked, piece.masked, self._written)
        self._stream.write(np.ascontiguousarray(piece.tokens, dtype=self._dtype).data)
        self._length += len(piece.tokens)
        self._written += len(piece.tokens)
        self._n_bytes += piece.n_bytes
        self.total_bytes += piece.n_bytes
        if not piece.more:
            self._lengths.append(self._length)
            self._bytes.append(self._n_bytes)
            split = piece.document.split
            self._origins.append(SPLITS.index(split) if split in SPLITS else 0)
            if self._digests is not None and piece.digest is not None:
                self._digests += piece.digest
            self._length = self._n_bytes = 0

    def close(self) -> None:
        """Writes what is buffered. Safe to call twice."""
        self._stream.close()

    def documents(self) -> Documents:
        """What is known of the documents."""
        digests = None
        if self._digests is not None:
            digests = np.frombuffer(self._digests, dtype="<u8").reshape(-1, 2)
        masked = None if self._masked is None else np.asarray(self._masked, dtype="<i8")
        return Documents(
            np.asarray(self._lengths, dtype="<i8"),
            np.asarray(self._bytes, dtype="<i8"),
            np.frombuffer(self._origins, dtype=np.uint8),
            digests,
            masked,
        )


@dataclass(frozen=True, eq=False)
class Documents:
    """What is known of the documents of a part.

    Attributes:
        lengths: tokens of each, its end_of_text included, (documents,).
        bytes: of the text of each, (documents,).
        origins: the split each came from, (documents,), an index into `SPLITS`.
        digests: of their texts, (documents, 2) uint64; None if there was no need.
        masked: where each run of tokens that are no targets begins and ends; None if none may be.
    """

    lengths: NDArray[np.int64]
    bytes: NDArray[np.int64]
    origins: NDArray[np.uint8]
    digests: NDArray[np.uint64] | None
    masked: NDArray[np.int64] | None


@dataclass(frozen=True)
class PartRecord:
    """What is said of a part that is finished.

    Attributes:
        documents: its number of documents with text.
        bytes: of their text.
        tally, without: what there is to say beside them.
    """

    documents: int
    bytes: int
    tally: Tally
    without: WithoutText


@dataclass(frozen=True)
class ShardRecord:
    """One shard: the documents of a part that go to a split; see `hyena.data.SplitRecord`."""

    documents: int
    tokens: int
    bytes: int
    sha256: dict[str, str]


@dataclass(frozen=True)
class Shard:
    """What a shard is called, and whether it is the last of its split."""

    name: str
    last: bool


@dataclass(frozen=True)
class Parts:
    """The files of the parts, while a data set is being made.

    Args: folder: where they are.
    """

    folder: Path

    def tokens(self, part: int) -> Path:
        """The tokens of a part, as `Spool` writes them."""
        return self.folder / f"{part:05d}.tokens"

    def record(self, part: int) -> PartRecord | None:
        """What is said of a part; None if it is not finished."""
        file = self.folder / f"{part:05d}.json"
        return _record(file, PartRecord)

    def finish(self, part: int, spool: Spool, tally: Tally, without: WithoutText) -> PartRecord:
        """Closes a part: with its record it counts as finished."""
        spool.close()
        found = spool.documents()
        arrays = {name: x for name, x in vars(found).items() if x is not None}
        np.savez(self._documents(part), **arrays)
        for file in (self.tokens(part), self._documents(part)):
            sync(file)
        record = PartRecord(len(spool), spool.total_bytes, tally, without)
        write_record(self.folder / f"{part:05d}.json", record, _VERSION)
        return record

    def documents(self, part: int) -> Documents:
        """What is known of the documents of a finished part."""
        with np.load(self._documents(part), allow_pickle=False) as arrays:
            return Documents(*(arrays.get(field.name) for field in dataclasses.fields(Documents)))

    def of_documents(self, part: int, what: Literal["origins", "digests"]) -> NDArray[Any]:
        """One attribute of `Documents` of a finished part; the others are not read."""
        with np.load(self._documents(part), allow_pickle=False) as arrays:
            found: NDArray[Any] = arrays[what]
            return found

    def assign(self, part: int, splits: NDArray[np.uint8]) -> None:
        """Writes for `deal` the index into `SPLITS` of each document of a part, or another number,
        (documents,)."""
        np.save(self._splits(part), splits, allow_pickle=False)

    def _splits(self, part: int) -> Path:
        return self.folder / f"{part:05d}.splits.npy"

    def _documents(self, part: int) -> Path:
        return self.folder / f"{part:05d}.npz"

    def dealt(self, part: int) -> dict[str, ShardRecord] | None:
        """The shards of a part; None if not all of them are finished."""
        file = self.folder / f"{part:05d}.shards.json"
        found = _record(file, _Dealt)
        return None if found is None else found.shards

    def deal(
        self,
        part: int,
        shards: Mapping[str, Shard],
        folder: Path,
        end: bytes,
    ) -> dict[str, ShardRecord]:
        """Writes the documents of a part into the shards of their splits, which `assign` was given;
        removes its tokens.

        Args:
            shards: those of this part, by split.
            folder: where they go.
            end: the end_of_text that closes a split.

        Returns: the record of each shard.
        """
        documents, written = self.documents(part), {}
        splits: NDArray[np.uint8] = np.load(self._splits(part), allow_pickle=False)
        for split, shard in shards.items():
            chosen = splits == SPLITS.index(split)
            written[split] = _write_shard(self.tokens(part), documents, chosen, shard, folder, end)
        write_record(self.folder / f"{part:05d}.shards.json", _Dealt(written), _VERSION)
        remove(self.tokens(part))
        return written


@dataclass(frozen=True)
class _Dealt:
    shards: dict[str, ShardRecord]


def _record(file: Path, kind: type[Record]) -> Record | None:
    if not file.exists():
        return None
    advice = f"remove the folder {file.parent.parent} and begin again"
    return read_record(file, kind, _VERSION, advice=advice)


def _write_shard(
    source: Path,
    documents: Documents,
    chosen: NDArray[np.bool_],
    shard: Shard,
    folder: Path,
    end: bytes,
) -> ShardRecord:
    """The chosen documents of a part as a shard, of whose tokens ``source`` has all."""
    lengths, ends = documents.lengths, np.cumsum(documents.lengths)
    starts = ends - lengths
    places = np.flatnonzero(chosen)
    # Neighbours are copied as one piece.
    breaks = np.flatnonzero(np.diff(places) != 1) + 1
    first = places[np.concatenate([[0], breaks])]
    last = places[np.concatenate([breaks - 1, [len(places) - 1]])]
    tokens, digest = tokens_file(folder, shard.name), hashlib.sha256()

    with source.open("rb") as read, tokens.open("wb") as stream:
        for start, stop in zip(starts[first], ends[last], strict=True):
            for block in _blocks(read, int(start) * len(end), int(stop) * len(end)):
                digest.update(block)
                stream.write(block)
        if shard.last:
            digest.update(end)
            stream.write(end)
    table = np.empty((len(places), 2), dtype="<i8")
    table[:, 0] = np.cumsum(lengths[places]) - lengths[places]
    table[:, 1] = documents.bytes[places]
    arrays = {documents_file(folder, shard.name): table}
    if documents.masked is not None:
        moved = np.zeros(len(ends), np.int64)
        moved[places] = table[:, 0] - starts[places]
        runs = _moved_runs(documents.masked, ends, chosen, moved)
        arrays[masked_file(folder, shard.name)] = runs
    sha256 = {tokens.name: digest.hexdigest()}
    for file, values in arrays.items():
        with file.open("wb") as stream:
            np.save(stream, values, allow_pickle=False)
        sha256[file.name] = sha256_of(file)
    for file in (tokens, *arrays):
        sync(file)
    n_tokens, n_bytes = int(lengths[places].sum()), int(documents.bytes[places].sum())
    return ShardRecord(len(places), n_tokens + shard.last, n_bytes, sha256)


def _add_runs(runs: array[int], masked: NDArray[np.bool_], before: int) -> None:
    """Adds the runs of what comes ``before`` tokens after the beginning; one that ended there goes
    on."""
    inside = np.flatnonzero(masked[1:] != masked[:-1]) + 1
    first, last = [0] if masked[:1].any() else [], [len(masked)] if masked[-1:].any() else []
    changes = np.concatenate([first, inside, last]).astype(np.int64) + before
    if runs and changes.size and runs[-1] == changes[0]:
        runs.pop()
        changes = changes[1:]
    runs.frombytes(changes.tobytes())


def _moved_runs(
    runs: NDArray[np.int64],
    ends: NDArray[np.int64],
    chosen: NDArray[np.bool_],
    moved: NDArray[np.int64],
) -> NDArray[np.int64]:
    """The runs in the chosen documents, by as many tokens further on as each of these was moved.

    Args: ends (documents,): where each document ends; it holds its runs up to there.
    Returns: first token of each run and the one behind its last, (runs, 2).
    """
    documents = np.searchsorted(ends, runs)
    here = chosen[documents]
    return (runs[here] + moved[documents[here]]).reshape(-1, 2)


def _blocks(source: IO[bytes], start: int, end: int) -> Iterator[bytes]:
    # Not through a memory map: its pages would count as memory of the process.
    source.seek(start)
    for at in range(start, end, _BLOCK):
        yield source.read(min(_BLOCK, end - at))
