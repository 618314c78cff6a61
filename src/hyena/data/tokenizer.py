"""What every tokenizer offers, the byte tokenizer, and the way to find a tokenizer by name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from hyena.files import digests
from hyena.files.records import read_record

from .utf8 import read_text, utf8

DESCRIPTION_FILE = "tokenizer.hyena.json"
"""Written by ``Tokenizer.save``: which kind of tokenizer a folder holds."""

FORMAT_VERSION = 1


@runtime_checkable
class Tokenizer(Protocol):
    """Turns text into token ids and back.

    Attributes:
        name: short name for messages, such as ``bytes`` or ``gpt2``.
        vocab_size: ids lie in 0 ... vocab_size − 1.
        end_of_text: the id that separates documents. Never produced by ``encode``.
        fingerprint: hexadecimal SHA-256 of what the tokenizer does; equal fingerprints mean that
            token files may be exchanged.
    """

    @property
    def name(self) -> str: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def end_of_text(self) -> int: ...
    @property
    def fingerprint(self) -> str: ...

    def encode(self, text: str) -> NDArray[np.int64]:
        """Token ids of ``text``, (n,) int64, with no special token added or recognised.

        Raises: ValueError if ``text`` cannot be written as UTF-8 (a lone surrogate).
        """
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ``ids``; bytes that are not UTF-8 become U+FFFD, end_of_text nothing.

        More ids only add to the text, but for a U+FFFD at its end, which may become a character.
        """
        ...

    def save(self, directory: str | Path) -> None:
        """Writes into ``directory`` all that `load_tokenizer` needs. Creates the folder."""
        ...


class BytesTokenizer:
    """UTF-8 bytes as tokens: ids 0 ... 255 are byte values and 256 is end_of_text."""

    name = "bytes"
    vocab_size = 257
    end_of_text = 256
    fingerprint = hashlib.sha256(b"UTF-8 bytes, end of text 256").hexdigest()

    def encode(self, text: str) -> NDArray[np.int64]:
        return np.frombuffer(utf8(text), dtype=np.uint8).astype(np.int64)

    def decode(self, ids: Iterable[int]) -> str:
        values = checked_ids(ids, self.vocab_size)
        data = bytes(values[values != self.end_of_text].tolist())
        return data.decode("utf-8", errors="replace")

    def save(self, directory: str | Path) -> None:
        write_description(directory, self, kind="bytes")


def load_tokenizer(spec: str | Path, *, end_of_text: str | None = None) -> Tokenizer:
    """The tokenizer that ``spec`` names.

    Args:
        spec: ``bytes``; ``gpt2``; a Hugging Face ``tokenizer.json``; or a folder with such a file
            or one that ``Tokenizer.save`` (so also ``prepare``) wrote.
        end_of_text: for a ``tokenizer.json``, the token that separates documents; without it the
            usual names are looked up.

    Raises:
        FileNotFoundError: ``spec`` is no known name and no file or folder.
        ValueError: the file is no tokenizer, has no end-of-text token, was written by a newer
            version, or differs from what was saved.
        ImportError: a package is needed that is not installed.
    """
    from . import hugging_face_tokenizer as hf

    if spec == "bytes":
        if end_of_text is not None:
            raise ValueError(
                "end_of_text applies to a tokenizer.json; 'bytes' has its own (id 256)"
            )
        return BytesTokenizer()
    if spec == "gpt2":
        if end_of_text is not None:
            raise ValueError("end_of_text applies to a tokenizer.json; 'gpt2' has its own (50256)")
        return hf.gpt2_tokenizer()
    path = Path(spec)
    if (path / DESCRIPTION_FILE).is_file():
        return _load_saved(path, end_of_text)
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(
            f"tokenizer {str(spec)!r} was asked for, but it is neither 'bytes' nor 'gpt2' nor an "
            f"existing file, and no folder with {DESCRIPTION_FILE} or tokenizer.json"
        )
    name = file.parent.name if file.name == "tokenizer.json" else file.stem
    return hf.HuggingFaceTokenizer(
        read_text(file), name=name or "tokenizer.json", end_of_text=end_of_text, origin=str(file)
    )


@dataclass
class _Description:
    """What `write_description` wrote."""

    kind: str
    name: str = "tokenizer.json"
    vocab_size: int = 0
    fingerprint: str = ""
    end_of_text: str | None = None


def _load_saved(directory: Path, end_of_text: str | None) -> Tokenizer:
    from . import hugging_face_tokenizer as hf

    file = directory / DESCRIPTION_FILE
    advice = "restore it from a copy"
    description = read_record(file, _Description, FORMAT_VERSION, advice=advice)
    digests.check(directory, (DESCRIPTION_FILE, "tokenizer.json"), advice=advice)
    if description.kind == "bytes":
        tokenizer: Tokenizer = BytesTokenizer()
    elif description.kind == "hugging_face":
        source = directory / "tokenizer.json"
        if not source.is_file():
            raise FileNotFoundError(f"{source} is missing, though {file} asks for it")
        tokenizer = hf.HuggingFaceTokenizer(
            read_text(source),
            name=description.name,
            end_of_text=end_of_text or description.end_of_text,
            origin=str(source),
        )
    else:
        raise ValueError(
            f"{file} describes a tokenizer of kind {description.kind!r}; upgrade hyena"
        )
    if end_of_text is None and tokenizer.fingerprint != description.fingerprint:
        raise ValueError(
            f"the tokenizer in {directory} is not the one that was saved there (its fingerprint "
            f"differs); restore the folder or write it again"
        )
    return tokenizer


def write_description(
    directory: str | Path, tokenizer: Tokenizer, *, kind: str, **details: str
) -> None:
    """Writes `DESCRIPTION_FILE`, from which `load_tokenizer` knows what the folder holds."""
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    description = {
        "format_version": FORMAT_VERSION,
        "kind": kind,
        "name": tokenizer.name,
        "vocab_size": tokenizer.vocab_size,
        "fingerprint": tokenizer.fingerprint,
        **details,
    }
    text = json.dumps(description, indent=2) + "\n"
    (folder / DESCRIPTION_FILE).write_text(text, encoding="utf-8")


def checked_ids(ids: Iterable[int], vocab_size: int) -> NDArray[np.int64]:
    """``ids`` as (n,) int64. Raises ValueError if one lies outside the vocabulary."""
    values = np.fromiter((int(i) for i in ids), dtype=np.int64)
    wrong = values[(values < 0) | (values >= vocab_size)]
    if wrong.size:
        raise ValueError(f"token id {wrong[0]} is outside the vocabulary of {vocab_size} ids")
    return values
