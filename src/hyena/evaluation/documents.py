"""Documents as tokens: what they have to be, in one line where they are not."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyena.arguments import check_whole, plural, shown


def checked(documents: Any) -> Iterator[tuple[Any, int, int]]:
    """The tokens of each document, how many they are, and the bytes of its text.

    Raises: ValueError if they are no documents, or one has no tokens.
    """
    for index, document in enumerate(_each(documents)):
        if not isinstance(document, tuple | list) or len(document) != 2:
            raise _no_documents(document)
        tokens, size = document
        size = check_whole("evaluate: bytes of a text", size, 0, 2**63)
        try:
            count = len(tokens)
        except TypeError as error:
            raise _no_tokens(tokens) from error
        if count < 2:
            raise ValueError(
                f"evaluate: document {index} has {count} {plural(count, 'token')}; a document is "
                "end_of_text, its tokens, end_of_text"
            )
        yield tokens, count, size


def token_ids(tokens: Any, start: int, end: int) -> NDArray[np.int64]:
    """Some of a document's. Raises: ValueError if they are no whole numbers from 0 on."""
    try:
        found = np.asarray(tokens[start:end])
    except (TypeError, ValueError, RuntimeError) as error:  # such as rows of several lengths
        raise _no_tokens(tokens) from error
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise _no_tokens(tokens)
    ids = found.astype(np.int64)  # those of uint64 beyond 2^63 become negative
    if ids.min() < 0:
        raise _no_tokens(tokens)
    return ids


def _each(documents: Any) -> Iterator[Any]:
    try:
        return iter(documents)
    except TypeError as error:
        raise _no_documents(documents) from error


def _no_documents(found: object) -> ValueError:
    return ValueError(
        f"evaluate: expected documents (tokens, bytes of the text), got {shown(found)}"
    )


def _no_tokens(found: object) -> ValueError:
    return ValueError(f"evaluate: expected token ids, 0 or more, got {shown(found)}")
