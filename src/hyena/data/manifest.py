"""``manifest.json``: what a folder of token files holds."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hyena.files import digests, records

FORMAT_VERSION = 1
MANIFEST_FILE = "manifest.json"
AGAIN = "make the folder again with `hyena prepare`"


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
    """

    documents: int
    tokens: int
    bytes: int
    sha256: dict[str, str]


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
    dtype: Literal["uint16", "uint32"]
    splits: dict[str, SplitRecord]
    skipped: int
    source: dict[str, Any]
    settings: dict[str, Any]


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Writes ``manifest.json``."""
    records.write_record(directory / MANIFEST_FILE, manifest, FORMAT_VERSION)


def read_manifest(directory: str | Path) -> Manifest:
    """The manifest of a folder of token files.

    Raises: FileNotFoundError if the folder is not there or has no manifest; ValueError if the
        manifest is damaged or of another format version.
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
    digests.check(path.parent, [MANIFEST_FILE], advice=AGAIN)
    content = records.read_versioned(path, FORMAT_VERSION, advice=AGAIN)
    known = {field.name for field in dataclasses.fields(Manifest)}
    try:  # what a later version added is passed over
        return records.from_plain(Manifest, {k: v for k, v in content.items() if k in known})
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}; {AGAIN}") from error
