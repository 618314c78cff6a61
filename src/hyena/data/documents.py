"""Documents, as text and as tokens."""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyena.arguments import plural

from .tokenizer import Cuttable, Lossy, Tokenizer
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
    """

    document: Document
    tokens: NDArray[Any]
    n_bytes: int
    more: bool
    masked: NDArray[np.bool_] | None = None


class TokenDocument(NamedTuple):
    """One text as tokens.

    Attributes:
        tokens: end_of_text, the text's tokens, end_of_text: (n + 2,), an integer type. Inputs are
            ``tokens[:-1]`` and targets ``tokens[1:]``.
        n_bytes: length of the text in UTF-8 bytes.
    """

    tokens: NDArray[Any]
    n_bytes: int


class WithoutText:
    """The documents of a source in which there is no text.

    Attributes: ``count``, their number; ``rows``, of them those that should hold some; ``unknown``,
    the tokens of letters that the tokenizer does not know.
    """

    def __init__(self) -> None:
        self.count = 0
        self.rows = 0
        self._first: list[str] = []
        self._first_row: Document | None = None
        self._lost: dict[str, str] = {}  # characters without a token, and where each was first
        self.unknown = UnknownTokens()

    def add(self, document: Document) -> None:
        self.count += 1
        self._first = [*self._first, document.name][:3]
        if document.lacks is not None:
            self.rows += 1
            self._first_row = self._first_row or document

    def add_lost(self, document: Document, characters: Iterable[str]) -> None:
        """Characters of a document that its tokenizer leaves out."""
        for character in sorted(characters):
            self._lost.setdefault(character, document.name)

    def notes(self) -> list[str]:
        """A line each on rows where a text was expected, on characters without a token and on
        tokens of unknown letters, if there were any."""
        notes = []
        if self._first_row is not None:
            notes.append(
                f"{self.rows:,} {plural(self.rows, 'row holds', 'rows hold')} no text where some "
                f"was expected, the first {self._first_row.name}: {self._first_row.lacks}"
            )
        for character, name in itertools.islice(self._lost.items(), 1):
            count = len(self._lost)
            notes.append(
                f"the tokenizer has no token for {count:,} "
                f"{plural(count, 'character')} of the text, the first {character!r} in {name}, and "
                "none for unknown ones: they were left out; train it with an unk_token, or with "
                "all bytes as its alphabet"
            )
        return notes + self.unknown.notes()

    def nothing_else(self) -> str:
        """The message if there is no other document."""
        if not self._first:
            return "the source has no documents"
        for note in self.notes():
            return f"there is no text in the source: {note}"
        shown = ", ".join(self._first) + (", ..." if self.count > 3 else "")
        return f"there is no text in the source: {shown} {'is' if self.count == 1 else 'are'} empty"


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


def encode_pieces(
    pieces: Iterable[Piece], tokenizer: Tokenizer, without: WithoutText, *, mask: bool = False
) -> Iterator[TokenPiece]:
    """Tokens of each document with text in it, the same as of the document in one piece.

    Memory holds a piece if the tokenizer is `Cuttable`, else a document. ``without`` gets the
    documents without text, the characters without a token, and how many tokens are the one for
    unknown letters. With ``mask``, lower-case letters are read as upper case and are no targets.

    Raises: as `tokenize`; with ``mask``, ValueError on a letter that is not one token.
    """
    # Asked once: to ask takes longer than to encode a short document.
    last_cut = tokenizer.last_cut if isinstance(tokenizer, Cuttable) else None
    lost = tokenizer.lost if isinstance(tokenizer, Lossy) else None
    unknown = getattr(tokenizer, "unknown", None)
    found = False
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
            tokens, size = _encode(text.upper() if mask else text, document, tokenizer)
            masked = _lower_case(text, document, tokens) if mask else None
            if lost is not None:
                without.add_lost(document, lost(text))
            if unknown is not None:
                without.unknown.add(document.name, text, tokens, unknown)
            held = [rest] if rest else []
            n_bytes += size
            if tokens.size or begun:
                yield TokenPiece(document, tokens, n_bytes, more, masked)
                found, begun, n_bytes = True, True, 0
        if more:
            continue
        if not begun:
            without.add(document)
            if not found and without.rows >= _ENOUGH:  # of what may be millions
                break
        held.clear()
        blank, begun, n_bytes = True, False, 0
    if not found:
        raise ValueError(without.nothing_else())


def _encode(text: str, document: Document, tokenizer: Tokenizer) -> tuple[NDArray[np.int64], int]:
    """The tokens of a text in a document, and its bytes."""
    try:
        n_bytes = len(text) if text.isascii() else len(utf8(text))
        return tokenizer.encode(text), n_bytes
    except ValueError as error:
        raise ValueError(f"{document.name}: {error}") from error


def _lower_case(text: str, document: Document, tokens: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each token is a lower-case letter of the text."""
    if len(tokens) != len(text) or not text.isascii():
        raise ValueError(
            f"{document.name}: soft_masked 'mask' needs a token for each letter, as bytes, "
            f"hyenadna and evo have, but {len(text):,} {plural(len(text), 'character')} became "
            f"{len(tokens):,} {plural(len(tokens), 'token')}; use another tokenizer, or fold"
        )
    letters = np.frombuffer(text.encode("ascii"), dtype=np.uint8)
    return letters - ord("a") < 26  # without a sign: what is before "a" comes out large
