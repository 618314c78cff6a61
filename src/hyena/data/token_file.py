"""Reads token files: memory-mapped tokens with their document boundaries."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .documents import TokenDocument
from .manifest import MANIFEST_FILE, Manifest, TokenizerRecord, read_manifest, sha256_of
from .tokenizer import Tokenizer, load_tokenizer


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """Little-endian uint16 where every id fits, else uint32."""
    return np.dtype("<u2") if vocab_size <= 65536 else np.dtype("<u4")


def tokens_file(directory: Path, split: str) -> Path:
    """The tokens of a split: the bare array."""
    return directory / f"{split}.bin"


def documents_file(directory: Path, split: str) -> Path:
    """The documents of a split: (documents, 2) int64, start in tokens and length in bytes."""
    return directory / f"{split}.documents.npy"


class TokenFile:
    """One split of a folder that `prepare` wrote. Made by `open_tokens`.

    Each document is stored as end_of_text, token, token, ... and the split ends with one more
    end_of_text. So the target that ends a document is the next one's first token, and every
    target is legitimate given its own document only.

    Attributes:
        directory: the folder.
        split: name of the split.
        tokens: (n,) uint16 or uint32, memory-mapped, read-only.
        document_starts: index of each document's first token, (documents,) int64, ascending.
        document_bytes: length of each document's text in UTF-8 bytes, (documents,) int64.
        tokenizer: record of the tokenizer that made it: name, fingerprint, vocab_size,
            end_of_text.
    """

    def __init__(
        self,
        directory: Path,
        split: str,
        tokens: NDArray[Any],
        table: NDArray[np.int64],
        tokenizer: TokenizerRecord,
    ) -> None:
        self.directory = directory
        self.split = split
        self.tokens = tokens
        self.document_starts: NDArray[np.int64] = np.ascontiguousarray(table[:, 0])
        self.document_bytes: NDArray[np.int64] = np.ascontiguousarray(table[:, 1])
        self.tokenizer = tokenizer

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
                f"{self.directory} was made with {_label(self.tokenizer)}, but "
                f"{_label(tokenizer)} was asked for; prepare the text with the second or use the "
                f"first"
            )

    def check_vocabulary(self, vocab_size: int) -> None:
        """Raises ValueError if a model with ``vocab_size`` ids has no room for these tokens.

        A larger vocabulary is fine: models pad theirs.
        """
        if vocab_size < self.tokenizer.vocab_size:
            raise ValueError(
                f"{self.directory} was made with {_label(self.tokenizer)}, but the model has "
                f"vocab_size={vocab_size}; set the model's vocab_size to "
                f"{self.tokenizer.vocab_size} or more, or prepare the text with another tokenizer"
            )


def open_tokens(directory: str | Path, split: str, *, verify: bool = False) -> TokenFile:
    """Opens one split of a folder that `prepare` wrote.

    Args:
        directory: the folder.
        split: "train", "validation" or "test".
        verify: compare the files' SHA-256 with the manifest, not only their sizes.

    Raises:
        FileNotFoundError: no such folder, or a file in it is missing.
        ValueError: no such split, another format version, or a file is damaged.
    """
    folder = Path(directory)
    manifest = read_manifest(folder)
    if split not in manifest.splits:
        raise ValueError(
            f"split {split!r} was asked for, but {folder} has {', '.join(manifest.splits)}"
        )
    table = _check_split(folder, manifest, split, verify=verify)
    tokens = np.memmap(tokens_file(folder, split), dtype=_dtype(folder, manifest), mode="r")
    return TokenFile(folder, split, tokens, table, manifest.tokenizer)


def check_files(directory: Path, manifest: Manifest, *, verify: bool) -> None:
    """Raises FileNotFoundError or ValueError unless every split's files are whole."""
    for split in manifest.splits:
        _check_split(directory, manifest, split, verify=verify)


def _check_split(
    directory: Path, manifest: Manifest, split: str, *, verify: bool
) -> NDArray[np.int64]:
    record = manifest.splits[split]
    again = "make the folder again with `hyena prepare`"
    paths = (tokens_file(directory, split), documents_file(directory, split))
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing, though the manifest names it; {again}")
    expected = record.tokens * _dtype(directory, manifest).itemsize
    if paths[0].stat().st_size != expected:
        raise ValueError(
            f"{paths[0]} is damaged: {paths[0].stat().st_size} bytes instead of {expected}; {again}"
        )
    try:
        table = np.load(paths[1], allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{paths[1]} is damaged: {error}; {again}") from error
    if table.shape != (record.documents, 2) or table.dtype != np.dtype("<i8"):
        raise ValueError(
            f"{paths[1]} is damaged: {table.dtype} {table.shape} instead of int64 "
            f"({record.documents}, 2); {again}"
        )
    starts = table[:, 0]
    if (
        not len(starts)
        or starts[0] != 0
        or (np.diff(starts) <= 0).any()
        or starts[-1] >= record.tokens - 1
    ):
        raise ValueError(f"{paths[1]} is damaged: the documents do not follow one another; {again}")
    if verify:
        for path in paths:
            if sha256_of(path) != record.sha256.get(path.name):
                raise ValueError(f"{path} is damaged: its SHA-256 is not the manifest's; {again}")
    return np.asarray(table, dtype=np.int64)


def _dtype(directory: Path, manifest: Manifest) -> np.dtype[Any]:
    if manifest.dtype not in ("uint16", "uint32"):
        raise ValueError(
            f"{directory / MANIFEST_FILE} is damaged: tokens of type {manifest.dtype!r}; make the "
            f"folder again with `hyena prepare`"
        )
    return np.dtype("<u2") if manifest.dtype == "uint16" else np.dtype("<u4")


def _label(tokenizer: Tokenizer | TokenizerRecord) -> str:
    short = tokenizer.fingerprint[:8]
    return f"tokenizer {tokenizer.name!r} ({tokenizer.vocab_size} ids, fingerprint {short})"
