"""Documents, as text and as tokens."""

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyena.arguments import plural

from .tokenizer import Cuttable, Lossy, Narrow, Tokenizer
from .unknown_tokens import UnknownTokens
from .utf8 import utf8

SPLITS = ("train", "validation", "test")
_ENOUGH = 1_000  # rows without text before any with, to know that there will be none


class Document(NamedTuple):
    """One text.

    Attributes:
        name: where it came from, for messages.
        text: the text.
        split: the split its source puts it in, or None if the source has none.
        lacks: why there is no text where one was expected, or None.
    """

    name: str
    text: str
    split: str | None = None
    lacks: str | None = None


class Piece(NamedTuple):
    """A part of a document, of which the next part comes next.

    Attributes:
        document: the document, but with the text of this part alone.
        more: whether there is a next part.
    """

    document: Document
    more: bool


class TokenPiece(NamedTuple):
    """A part of a document as tokens.

    Attributes:
        document: as in `Piece`.
        tokens: of this part, without any end_of_text: (n,), an integer type.
        n_bytes: length of this part in UTF-8 bytes.
        more: whether another part of the same document comes next.
        masked: which tokens are no targets, (n,); None if all of them are targets.
        digest: with the last part, that of the whole document's text, if it was asked for.
    """

    document: Document
    tokens: NDArray[Any]
    n_bytes: int
    more: bool
    masked: NDArray[np.bool_] | None = None
    digest: bytes | None = None


class TokenDocument(NamedTuple):
    """One text as tokens.

    Attributes:
        tokens: end_of_text, the text's tokens, end_of_text: (n + 2,), an integer type. Inputs are
            ``tokens[:-1]`` and targets ``tokens[1:]``.
        n_bytes: length of the text in UTF-8 bytes.
    """

    tokens: NDArray[Any]
    n_bytes: int


@dataclass
class WithoutText:
    """The documents of a source in which there is no text, and what else there is to say of it.

    Attributes:
        later: whether this is a part of a source that others come before.
        found: documents with text.
        count: documents without.
        rows: of them those that should hold some.
        first: names of the first of them.
        first_row: name of the first row, and why it holds no text.
        lost: characters without a token, and the document in which each was first.
        unknown: tokens of letters that the tokenizer does not know.
    """

    later: bool = False
    found: int = 0
    count: int = 0
    rows: int = 0
    first: list[str] = field(default_factory=list)
    first_row: list[str] = field(default_factory=list)
    lost: dict[str, str] = field(default_factory=dict)
    unknown: UnknownTokens = field(default_factory=UnknownTokens)

    def add(self, document: Document) -> None:
        """A document without text.

        Raises: ValueError if so many rows lack text that none will have any.
        """
        self.count += 1
        self.first = [*self.first, document.name][:3]
        if document.lacks is not None:
            self.rows += 1
            self.first_row = self.first_row or [document.name, document.lacks]
            if (
                self.rows == _ENOUGH and not self.found and not self.later
            ):  # of what may be millions
                self.check()

    def add_lost(self, document: Document, characters: Iterable[str]) -> None:
        """Characters of a document that its tokenizer leaves out."""
        for character in sorted(characters):
            self.lost.setdefault(character, document.name)

    def merge(self, later: "WithoutText") -> None:
        """Adds what was said of a later part of the source."""
        self.found, self.count, self.rows = (
            self.found + later.found,
            self.count + later.count,
            self.rows + later.rows,
        )
        self.first = [*self.first, *later.first][:3]
        self.first_row = self.first_row or later.first_row
        self.lost = later.lost | self.lost
        self.unknown.merge(later.unknown)

    def notes(self) -> list[str]:
        """A line each on rows where a text was expected, on characters without a token and on
        tokens of unknown letters, if there were any."""
        notes = []
        if self.first_row:
            name, lacks = self.first_row
            notes.append(
                f"{self.rows:,} {plural(self.rows, 'row holds', 'rows hold')} no text where some "
                f"was expected, the first {name}: {lacks}"
            )
        for character, name in itertools.islice(self.lost.items(), 1):
            count = len(self.lost)
            notes.append(
                f"the tokenizer has no token for {count:,} "
                f"{plural(count, 'character')} of the text, the first {character!r} in {name}, and "
                "none for unknown ones: they were left out; train it with an unk_token, or with "
                "all bytes as its alphabet"
            )
        return notes + self.unknown.notes()

    def check(self) -> None:
        """Raises ValueError if there is no document with text."""
        if self.found:
            return
        if not self.first:
            raise ValueError("the source has no documents")
        for note in self.notes():
            raise ValueError(f"there is no text in the source: {note}")
        some = ", ".join(self.first) + (", ..." if self.count > 3 else "")
        verb = "is" if self.count == 1 else "are"
        raise ValueError(f"there is no text in the source: {some} {verb} empty")


def tokenize(documents: Iterable[Document], tokenizer: Tokenizer) -> Iterator[TokenDocument]:
    """Tokens of each document with text in it, one document in memory at a time.

    Raises: ValueError, naming the document, for text that is not valid Unicode; and if there is
        no text in any of the documents, or in the first 1,000 rows that should hold some.
    """
    return (tokens for _, tokens in with_tokens(documents, tokenizer, WithoutText()))


def with_tokens(
    documents: Iterable[Document], tokenizer: Tokenizer, without: WithoutText
) -> Iterator[tuple[Document, TokenDocument]]:
    """As `tokenize`, beside the documents themselves; ``without`` gets those without text."""
    end = np.asarray([tokenizer.end_of_text], dtype=np.int64)
    pieces = (Piece(document, False) for document in documents)
    for document, tokens, n_bytes, *_ in encode_pieces(pieces, tokenizer, without):
        yield document, TokenDocument(np.concatenate([end, tokens, end]), n_bytes)
    without.check()


def encode_pieces(
    pieces: Iterable[Piece],
    tokenizer: Tokenizer,
    without: WithoutText,
    *,
    mask: bool = False,
    salt: bytes | None = None,
) -> Iterator[TokenPiece]:
    """Tokens of each document with text in it, the same as of the document in one piece.

    Memory holds a piece if the tokenizer is `Cuttable`, else a document. ``without`` gets the
    documents without text, the characters without a token, and how many tokens are the one for
    unknown letters. With ``mask``, lower-case letters are read as upper case and are no targets.
    With a ``salt`` of up to 16 bytes, each document has a digest of 16 bytes.

    Raises: as `tokenize`, but nothing at the end if there was no text: ``without.check()`` does;
        with ``mask``, ValueError on a letter that is not one token.
    """
    # Asked once: to ask takes longer than to encode a short document.
    last_cut = tokenizer.last_cut if isinstance(tokenizer, Cuttable) else None
    lost = tokenizer.lost if isinstance(tokenizer, Lossy) else None
    encode = tokenizer.encode_narrow if isinstance(tokenizer, Narrow) else tokenizer.encode
    unknown = getattr(tokenizer, "unknown", None)
    hashed = None if salt is None else hashlib.blake2b(digest_size=16, salt=salt)
    held: list[str] = []  # of the document, what has not been encoded yet
    blank, begun, n_bytes = True, False, 0
    for document, more in pieces:
        text, rest = document.text, ""
        blank = blank and (not text or text.isspace())
        if more:
            at = 0 if blank or last_cut is None else last_cut(text)
            if not at:
                held.append(text)
                continue
            text, rest = text[:at], text[at:]
        if not blank:
            text = "".join([*held, text]) if held else text
            tokens, size = _encode(text.upper() if mask else text, document, encode)
            masked = _lower_case(text, document, tokens) if mask else None
            if lost is not None:
                without.add_lost(document, lost(text))
            if unknown is not None:
                without.unknown.add(document.name, text, tokens, unknown)
            held = [rest] if rest else []
            n_bytes += size
            if hashed is not None:
                hashed.update(text.encode())
            if tokens.size or begun:
                without.found += not begun
                digest = None if more or hashed is None else hashed.digest()
                yield TokenPiece(document, tokens, n_bytes, more, masked, digest)
                begun, n_bytes = True, 0
        if more:
            continue
        if not begun:
            without.add(document)
        held.clear()
        blank, begun, n_bytes = True, False, 0
        hashed = None if salt is None else hashlib.blake2b(digest_size=16, salt=salt)


def _encode(
    text: str, document: Document, encode: Callable[[str], NDArray[Any]]
) -> tuple[NDArray[Any], int]:
    """The tokens of a text in a document, and its bytes."""
    try:
        n_bytes = len(text) if text.isascii() else len(utf8(text))
        return encode(text), n_bytes
    except ValueError as error:
        raise ValueError(f"{document.name}: {error}") from error


def _lower_case(text: str, document: Document, tokens: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether each token is a lower-case letter of the text."""
    if len(tokens) != len(text) or not text.isascii():
        raise ValueError(
            f"{document.name}: soft_masked 'mask' needs a token for each letter, as bytes, "
            f"hyenadna and evo have, but {len(text):,} {plural(len(text), 'character')} became "
            f"{len(tokens):,} {plural(len(tokens), 'token')}; use another tokenizer, or fold"
        )
    letters = np.frombuffer(text.encode("ascii"), dtype=np.uint8)
    return letters - ord("a") < 26  # without a sign: what is before "a" comes out large
