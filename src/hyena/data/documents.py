"""Documents, as text and as tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .tokenizer import Tokenizer
from .utf8 import utf8


class Document(NamedTuple):
    """One text.

    Attributes:
        name: where it came from, for messages.
        text: the text.
        split: the split its source puts it in, or None if the source has none.
    """

    name: str
    text: str
    split: str | None = None


class TokenDocument(NamedTuple):
    """One text as tokens.

    Attributes:
        tokens: end_of_text, the text's tokens, end_of_text: (n + 2,), an integer type. Inputs are
            ``tokens[:-1]`` and targets ``tokens[1:]``.
        n_bytes: length of the text in UTF-8 bytes.
    """

    tokens: NDArray[Any]
    n_bytes: int


def tokenize(documents: Iterable[Document], tokenizer: Tokenizer) -> Iterator[TokenDocument]:
    """Tokens of each document with text in it, one document in memory at a time.

    Raises: ValueError, naming the document, for text that is not valid Unicode; and if there is
        no text in any of the documents.
    """
    found = False
    names: list[str] = []
    for document in documents:
        encoded = encode_document(document, tokenizer)
        if encoded is not None:
            found = True
            yield encoded
        elif len(names) < 4:
            names.append(document.name)
    if not found:
        raise ValueError(no_text(names))


def encode_document(document: Document, tokenizer: Tokenizer) -> TokenDocument | None:
    """Tokens of one document; None if it has no text, or nothing but white space.

    Raises: ValueError, naming the document, for text that is not valid Unicode.
    """
    if not document.text.strip():
        return None
    try:
        n_bytes = len(utf8(document.text))
        tokens = tokenizer.encode(document.text)
    except ValueError as error:
        raise ValueError(f"{document.name}: {error}") from error
    if not tokens.size:
        return None
    end = np.asarray([tokenizer.end_of_text], dtype=np.int64)
    return TokenDocument(np.concatenate([end, tokens, end]), n_bytes)


def no_text(names: list[str]) -> str:
    """The message for a source without text; ``names`` are the (first) empty documents."""
    if not names:
        return "the source has no documents"
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"there is no text in the source: {shown} {'is' if len(names) == 1 else 'are'} empty"
