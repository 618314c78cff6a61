"""``manifest.json``: what a folder of token files holds."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FORMAT_VERSION = 1
MANIFEST_FILE = "manifest.json"


@dataclass(frozen=True)
class TokenizerRecord:
    """The tokenizer that made the tokens; see `hyena.data.Tokenizer` for the fields."""

    name: str
    fingerprint: str
    vocab_size: int
    end_of_text: int

    def __post_init__(self) -> None:
        if not all(isinstance(n, int) for n in (self.vocab_size, self.end_of_text)):
            raise TypeError("the numbers of a tokenizer are whole numbers")
        if not all(isinstance(s, str) for s in (self.name, self.fingerprint)):
            raise TypeError("the name and the fingerprint of a tokenizer are text")


@dataclass(frozen=True)
class SplitRecord:
    """Size of one split.

    Attributes:
        documents: number of documents.
        tokens: number of tokens, end_of_text tokens included.
        bytes: length of its texts in UTF-8 bytes.
        sha256: of each of its files, by name.
    """

    documents: int
    tokens: int
    bytes: int
    sha256: dict[str, str]

    def __post_init__(self) -> None:
        if not all(isinstance(n, int) for n in (self.documents, self.tokens, self.bytes)):
            raise TypeError("the counts of a split are whole numbers")
        if not isinstance(self.sha256, dict):
            raise TypeError("sha256 is a table of file names")


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
    """

    tokenizer: TokenizerRecord
    dtype: str
    splits: dict[str, SplitRecord]
    skipped: int
    source: dict[str, Any]
    settings: dict[str, Any]

    def __post_init__(self) -> None:
        if not isinstance(self.source, dict) or not isinstance(self.settings, dict):
            raise TypeError("source and settings are tables")


def write_manifest(directory: Path, manifest: Manifest) -> Path:
    """Writes ``manifest.json`` and returns its path."""
    content = {"format_version": FORMAT_VERSION, **dataclasses.asdict(manifest)}
    path = directory / MANIFEST_FILE
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return path


def read_manifest(directory: str | Path) -> Manifest:
    """The manifest of a folder of token files.

    Raises:
        FileNotFoundError: the folder is not there or has no manifest.
        ValueError: the manifest is damaged or of another format version.
    """
    path = Path(directory) / MANIFEST_FILE
    if not path.is_file():
        where = Path(directory)
        what = "is a file" if where.is_file() else "does not exist"
        what = "has no manifest.json" if where.is_dir() else what
        raise FileNotFoundError(
            f"token files were asked for in {directory}, but it {what}; make them with "
            f"`hyena prepare`"
        )
    try:
        content: Any = json.loads(path.read_bytes())
        version = content["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path, error) from error
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {version}, this hyena reads {FORMAT_VERSION}; upgrade hyena"
        )
    try:
        splits = {name: SplitRecord(**record) for name, record in content["splits"].items()}
        return Manifest(
            tokenizer=TokenizerRecord(**content["tokenizer"]),
            dtype=content["dtype"],
            splits=splits,
            skipped=content["skipped"],
            source=content["source"],
            settings=content["settings"],
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, error) from error


def sha256_of(file: Path) -> str:
    """Hexadecimal SHA-256 of a file, read in blocks."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{path} is damaged ({type(error).__name__}: {error}); make the folder again with "
        f"`hyena prepare`"
    )
