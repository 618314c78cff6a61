"""Reads token files: the manifest of a folder, and memory-mapped tokens with their documents."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hyena.arguments import plural, shown
from hyena.files import digests, records

from .documents import TokenDocument
from .load_tokenizer import load_tokenizer
from .shards import ShardedTokens
from .stores import Disk, Remote, find_store
from .tokenizer import Tokenizer
from .verified import check_written

FORMAT_VERSION = 1
MANIFEST_FILE = "manifest.json"
AGAIN = "make the folder again with `hyena prepare`"

# What numpy raises for a header that is none: it is read as Python's literals.
_NO_ARRAY = (ValueError, EOFError, SyntaxError, TypeError, TokenError, MemoryError, OverflowError)


@dataclass(frozen=True)
class TokenizerRecord:
    """The tokenizer that made the tokens; see `hyena.data.Tokenizer` for the fields."""

    name: str
    fingerprint: str
    vocab_size: int
    end_of_text: int


@dataclass(frozen=True)
class SplitRecord:
    """Size of one split.

    Attributes:
        documents: number of documents.
        tokens: number of tokens, end_of_text tokens included.
        bytes: length of its texts in UTF-8 bytes.
        sha256: of each of its files, by name.
        shards: tokens of each of its shards, in order; nothing if it is in one file.
    """

    documents: int
    tokens: int
    bytes: int
    sha256: dict[str, str]
    shards: list[int] = dataclasses.field(default_factory=list)

    def parts(self, split: str) -> list[tuple[str, int]]:
        """What the names of its files begin with, and how many tokens each of these holds."""
        if not self.shards:
            return [(split, self.tokens)]
        return [(shard_name(split, i), tokens) for i, tokens in enumerate(self.shards)]


def shard_name(split: str, number: int) -> str:
    """What the names of a shard's files begin with."""
    return f"{split}-{number:05d}"


@dataclass(frozen=True)
class Manifest:
    """What a folder of token files holds.

    Attributes:
        tokenizer: what made the tokens.
        dtype: type of the tokens, "uint16" or "uint32", little-endian.
        splits: the splits that are there, by name.
        skipped: documents left out because there was no text in them.
        source: what the text was read from.
        settings: the settings it was prepared with.
        duplicates: documents left out because another one has the same text.
    """

    tokenizer: TokenizerRecord
    dtype: Literal["uint16", "uint32"]
    splits: dict[str, SplitRecord]
    skipped: int
    source: dict[str, Any]
    settings: dict[str, Any]
    duplicates: int = 0


def read_manifest(directory: str | Path | Disk | Remote) -> Manifest:
    """The manifest of a folder of token files, or of the URL of one, or of what
    `hyena.data.stores.find_store` made of either.

    Raises: FileNotFoundError if the folder is not there or has no manifest; ValueError if the
        manifest is damaged or of another format version.
    """
    store = find_store(directory)
    store.fetch()
    with store.told():
        return _manifest(store)


def is_prepared(place: str | Path) -> bool:
    """Whether a folder, or the URL of one, has a manifest."""
    return bool(find_store(place).sizes([MANIFEST_FILE]))


def _manifest(store: Disk | Remote) -> Manifest:
    """The manifest whose copy is here."""
    path = store.path / MANIFEST_FILE
    if not path.is_file():
        what = "is a file" if store.path.is_file() else "does not exist"
        what = "has no manifest.json" if store.path.is_dir() else what
        raise FileNotFoundError(
            f"token files were asked for in {store.shown}, but it {what}; make them with "
            f"`hyena prepare`"
        )
    digests.check(path.parent, [MANIFEST_FILE], advice=AGAIN)
    content = records.read_versioned(path, FORMAT_VERSION, advice=AGAIN)
    known = {field.name for field in dataclasses.fields(Manifest)}
    try:  # what a later version added is passed over
        return records.from_plain(Manifest, {k: v for k, v in content.items() if k in known})
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}; {AGAIN}") from error


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """Little-endian uint16 where every id fits, else uint32."""
    return np.dtype("<u2") if vocab_size <= 65536 else np.dtype("<u4")


def tokens_file(directory: Path, shard: str) -> Path:
    """The tokens of a shard, which has the split's name if it is the only one: the bare array."""
    return directory / f"{shard}.bin"


def documents_file(directory: Path, shard: str) -> Path:
    """The documents of a shard: (documents, 2) int64, start in its tokens and length in bytes."""
    return directory / f"{shard}.documents.npy"


def masked_file(directory: Path, shard: str) -> Path:
    """What is masked in a shard: (runs, 2) int64, start and end of each run, in its tokens."""
    return directory / f"{shard}.masked.npy"


_NEEDED = (tokens_file, documents_file)  # of each shard


@dataclass(frozen=True, eq=False)
class TokenFile:
    """One split of a folder that `prepare` wrote. Made by `open_tokens`.

    Each document is stored as end_of_text, token, token, ... and the split ends with one more
    end_of_text. So the target that ends a document is the next one's first token, and every
    target is legitimate given its own document only.

    Attributes:
        directory: the folder, or where the small files of a URL have been copied to.
        split: name of the split.
        tokens: (n,) uint16 or uint32, memory-mapped, read-only; of a split in several shards what
            is read by slices as such an array is.
        document_starts: index of each document's first token, (documents,) int64, ascending.
        document_bytes: length of each document's text in UTF-8 bytes, (documents,) int64.
        masked: runs of tokens that are no targets of training, first and behind the last, (runs, 2)
            int64, ascending, with a token or more between two.
        tokenizer: record of the tokenizer that made it: name, fingerprint, vocab_size,
            end_of_text.
        place: what the folder is called: its path or URL.
    """

    directory: Path
    split: str
    tokens: NDArray[Any] | ShardedTokens
    document_starts: NDArray[np.int64]
    document_bytes: NDArray[np.int64]
    masked: NDArray[np.int64]
    tokenizer: TokenizerRecord
    place: str

    def __len__(self) -> int:
        """Number of tokens."""
        return len(self.tokens)

    @property
    def total_bytes(self) -> int:
        """Length of the split's text in UTF-8 bytes."""
        return int(self.document_bytes.sum())

    def documents(self) -> Iterator[TokenDocument]:
        """The documents in order, each with its closing end_of_text, as views of the map."""
        ends = np.append(self.document_starts[1:], len(self.tokens) - 1)
        for start, end, n_bytes in zip(
            self.document_starts.tolist(), ends.tolist(), self.document_bytes.tolist(), strict=True
        ):
            yield TokenDocument(self.tokens[start : end + 1], n_bytes)

    def load_tokenizer(self) -> Tokenizer:
        """The tokenizer, which is kept beside the tokens. Raises as `hyena.data.load_tokenizer`."""
        return load_tokenizer(self.directory)

    def check_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Raises ValueError if another tokenizer made these tokens."""
        if tokenizer.fingerprint != self.tokenizer.fingerprint:
            raise ValueError(
                f"{self.place} was made with {_label(self.tokenizer)}, but "
                f"{_label(tokenizer)} was asked for; prepare the text with the second or use the "
                f"first"
            )

    def check_vocabulary(self, vocab_size: int) -> None:
        """Raises ValueError if a model with ``vocab_size`` ids has no room for these tokens.

        A larger vocabulary is fine: models pad theirs.
        """
        if vocab_size < self.tokenizer.vocab_size:
            raise ValueError(
                f"{self.place} was made with {_label(self.tokenizer)}, but the model has "
                f"vocab_size={vocab_size}; set the model's vocab_size to "
                f"{self.tokenizer.vocab_size} or more, or prepare the text with another tokenizer"
            )


def open_tokens(
    directory: str | Path | Disk | Remote, split: str, *, verify: bool = True
) -> TokenFile:
    """Opens one split of a folder that `prepare` wrote.

    Args:
        directory: the folder; or the URL of a copy of it that fsspec reads, such as
            ``s3://bucket/data``, of which sizes and tables are looked at when it is opened, and
            tokens are read as they are asked for. What `hyena.data.stores.find_store` makes of a
            URL copies each small file once, however many splits are opened.
        split: "train", "validation" or "test".
        verify: compare the files' SHA-256 with the manifest, for which they are read once. Of a
            split of a gigabyte or more, files that were compared before and have not been written
            since are not read again; see `hyena.data.verify`. Without it only sizes and the tables
            of documents are looked at.

    Raises: FileNotFoundError if there is no such folder, or a file in it is missing; ValueError if
        there is no such split, on another format version, or if a file is damaged; ImportError if
        a URL needs a package that is not installed.
    """
    store = find_store(directory)
    store.fetch()
    with store.told():
        return _open(store, split, verify=verify)


def _open(store: Disk | Remote, split: str, *, verify: bool) -> TokenFile:
    folder, manifest = store.path, _manifest(store)
    if split not in manifest.splits:
        raise ValueError(
            f"split {shown(split)} was asked for, but {store.shown} has "
            f"{', '.join(manifest.splits)}"
        )
    record, dtype = manifest.splits[split], np.dtype(manifest.dtype).newbyteorder("<")
    shards = [(tokens_file(folder, name).name, tokens) for name, tokens in record.parts(split)]
    needed = [of(folder, name) for name, _ in record.parts(split) for of in _NEEDED]
    tables = {documents_file(folder, name).name for name, _ in record.parts(split)}
    store.fetch(tables.union(name for name in record.sha256 if name.endswith(".npy")))
    sizes = store.sizes(file.name for file in needed)
    for file in needed:
        if file.name not in sizes:
            raise FileNotFoundError(f"{file} is missing, though the manifest names it; {AGAIN}")
    for name, tokens in shards:
        size, expected = sizes[name], tokens * dtype.itemsize
        if size != expected:
            what = f"{size} {plural(size, 'byte')} instead of {expected}"
            raise _damaged(folder / name, what)
    if verify:
        check_written(folder, {file.name: "" for file in needed} | record.sha256, _damaged)
    table = _documents(folder, record, split)
    stream: NDArray[Any] | ShardedTokens
    if len(shards) == 1 and isinstance(store, Disk):
        stream = store.tokens(shards[0][0], dtype, record.tokens)
    else:
        stream = ShardedTokens(store, shards, dtype)
    masked = _masked(folder, record, split)
    starts, n_bytes = np.ascontiguousarray(table.T)
    place = store.shown
    return TokenFile(folder, split, stream, starts, n_bytes, masked, manifest.tokenizer, place)


def _documents(directory: Path, record: SplitRecord, split: str) -> NDArray[np.int64]:
    """Where each document of a split starts, in tokens, and its bytes, (documents, 2)."""
    shards, tables, before = record.parts(split), [], 0
    for name, tokens in shards:
        file = documents_file(directory, name)
        table = _read_pairs(file, None if record.shards else record.documents)
        starts, sizes = table[:, 0], table[:, 1]
        closing = int(name == shards[-1][0])  # the end_of_text behind the last document
        ends = [*starts[:1], tokens - closing - starts[-1]] if len(starts) else [1]
        if ends[0] != 0 or ends[-1] <= 0 or (np.diff(starts) <= 0).any():
            raise _damaged(file, "the documents do not follow one another")
        if (sizes < 0).any():
            raise _damaged(file, "a document has a negative number of bytes")
        tables.append(table + np.array([before, 0]))
        before += tokens
    whole = np.concatenate(tables)
    file, n_bytes = documents_file(directory, shards[0][0]), int(whole[:, 1].sum())
    if n_bytes != record.bytes:
        raise _damaged(file, f"the documents have {n_bytes} bytes, not {record.bytes}")
    if (len(whole), before) != (record.documents, record.tokens):
        raise ValueError(
            f"{directory / MANIFEST_FILE} is damaged: the shards of {split} have {len(whole)} "
            f"documents and {before} tokens, not {record.documents} and {record.tokens}; {AGAIN}"
        )
    return whole


def _masked(directory: Path, record: SplitRecord, split: str) -> NDArray[np.int64]:
    """What is masked in a split; nothing if there is no file of it."""
    tables, before = [np.empty((0, 2), dtype=np.int64)], 0
    for name, tokens in record.parts(split):
        file = masked_file(directory, name)
        if file.name in record.sha256:
            if not file.is_file():
                raise FileNotFoundError(f"{file} is missing, though the manifest names it; {AGAIN}")
            table = _read_pairs(file)
            if table.size and (table[0, 0] < 0 or table[-1, 1] > tokens):
                raise _damaged(file, "a run lies outside the tokens")
            if (np.diff(table.ravel()) <= 0).any():
                raise _damaged(file, "the runs do not follow one another")
            tables.append(table + before)
        before += tokens
    return np.concatenate(tables)


def _read_pairs(file: Path, count: int | None = None) -> NDArray[np.int64]:
    """A file of ``count`` pairs, or of any number. Raises ValueError if it is none."""
    try:
        with file.open("rb") as stream:
            table = np.lib.format.read_array(stream, allow_pickle=False)
    except _NO_ARRAY as error:
        raise _damaged(file, " ".join(str(error).split())) from error
    shape = (len(table) if count is None and table.ndim else count, 2)
    if table.shape != shape or table.dtype != np.dtype("<i8"):
        raise _damaged(file, f"{table.dtype} {table.shape} instead of int64 {shape}")
    return np.asarray(table, dtype=np.int64)


def _damaged(path: Path, why: str) -> ValueError:
    return ValueError(f"{path} is damaged: {why}; {AGAIN}")


def _label(tokenizer: Tokenizer | TokenizerRecord) -> str:
    short = tokenizer.fingerprint[:8]
    return f"tokenizer {tokenizer.name!r} ({tokenizer.vocab_size} ids, fingerprint {short})"
