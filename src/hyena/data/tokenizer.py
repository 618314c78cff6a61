"""What every tokenizer offers, and the byte tokenizer."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from hyena.arguments import token_ids
from hyena.files.records import write_record

from .utf8 import utf8

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

        Raises: TypeError if ``text`` is none; ValueError if it cannot be written as UTF-8 (a lone
            surrogate).
        """
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ``ids``; bytes that are not UTF-8 become U+FFFD, end_of_text nothing.

        More ids only add to the text, but for a U+FFFD at its end, which may become a character.

        Raises: ValueError if ``ids`` are no integers, or outside the vocabulary.
        """
        ...

    def save(self, directory: str | Path) -> None:
        """Writes into ``directory`` all that `load_tokenizer` needs. Creates the folder."""
        ...


@runtime_checkable
class Cuttable(Protocol):
    """What a tokenizer offers that need not have a long text whole."""

    def last_cut(self, text: str) -> int:
        """Where to cut ``text``, a part of a longer one, as late as can be; 0 is nowhere.

        The tokens of what is before and after the cut are then those of the longer text, whatever
        comes before and after ``text``.
        """
        ...


@runtime_checkable
class Lossy(Protocol):
    """What a tokenizer offers that may leave out characters in silence."""

    def lost(self, text: str) -> set[str]:
        """The characters of ``text`` that have no token, nor one for all unknown ones."""
        ...


@runtime_checkable
class Narrow(Protocol):
    """What a tokenizer offers whose ids of text fit into fewer than eight bytes."""

    def encode_narrow(self, text: str) -> NDArray[Any]:
        """What ``encode`` gives, in a smaller type."""
        ...


class BytesTokenizer:
    """UTF-8 bytes as tokens: ids 0 ... 255 are byte values and 256 is end_of_text."""

    name = "bytes"
    vocab_size = 257
    end_of_text = 256
    fingerprint = hashlib.sha256(b"UTF-8 bytes, end of text 256").hexdigest()

    def encode(self, text: str) -> NDArray[np.int64]:
        return self.encode_narrow(text).astype(np.int64)

    def encode_narrow(self, text: str) -> NDArray[np.uint8]:
        return np.frombuffer(utf8(text), dtype=np.uint8)

    def last_cut(self, text: str) -> int:
        return len(text)

    def decode(self, ids: Iterable[int]) -> str:
        values = token_ids("decode", ids, self.vocab_size)
        data = bytes(value for value in values if value != self.end_of_text)
        return data.decode("utf-8", errors="replace")

    def save(self, directory: str | Path) -> None:
        write_description(directory, self, kind="bytes")


@dataclass(frozen=True)
class Description:
    """What a folder with a tokenizer says of it, so that `hyena.data.load_tokenizer` finds it."""

    kind: str
    name: str = "tokenizer.json"
    vocab_size: int = 0
    fingerprint: str = ""
    end_of_text: str | None = None


def write_description(
    directory: str | Path, tokenizer: Tokenizer, kind: str, end_of_text: str | None = None
) -> None:
    """Writes `DESCRIPTION_FILE`. Raises: OSError."""
    description = Description(
        kind, tokenizer.name, tokenizer.vocab_size, tokenizer.fingerprint, end_of_text
    )
    write_record(Path(directory) / DESCRIPTION_FILE, description, FORMAT_VERSION)
