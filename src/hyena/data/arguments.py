"""Arguments of a wrong kind, as one clear line."""

import reprlib
from operator import index
from typing import Any, SupportsFloat


def whole_number(name: str, value: Any, least: int | None = None, most: int | None = None) -> int:
    """The value as an int, be it of NumPy or PyTorch: what is kept, rather than the value itself.

    Raises: ValueError if it is something else, a truth value too, below ``least`` or above
        ``most``.
    """
    try:
        if isinstance(value, bool) or str(getattr(value, "dtype", "")).endswith("bool"):
            raise TypeError("a truth value")
        number = index(value)
    except TypeError as error:
        raise ValueError(f"{name}: expected an integer, got {shown(value)}") from error
    if least is not None and number < least:
        raise ValueError(f"{name}: expected at least {least}, got {number}")
    if most is not None and number > most:
        raise ValueError(f"{name}: expected at most {most}, got {number}")
    return number


def several(value: Any) -> list[Any]:
    """What is in a list or the like; a text, or what has nothing in it, as a list of itself."""
    try:
        return [value] if isinstance(value, str) else list(value)
    except TypeError:
        return [value]


def token_ids(name: str, ids: Any, vocab_size: int, advice: str = "") -> list[int]:
    """The ids of tokens, be they of NumPy or PyTorch.

    Raises: ValueError, which ends with ``advice`` if they are no integers one after the other.
    """
    try:
        values = [x if type(x) is int else whole_number(name, x) for x in ids]  # most are
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: expected token ids, got {shown(ids)}{advice}") from error
    for value in values:
        if not 0 <= value < vocab_size:
            raise ValueError(
                f"{name}: token id {value} is outside the vocabulary of {vocab_size}; was the text "
                "tokenized with another tokenizer?"
            )
    return values


def number(name: str, value: Any) -> float:
    """The value as a float, be it of NumPy or PyTorch: what is kept, rather than the value itself.

    Raises: ValueError if it is no number, or one beyond the largest float.
    """
    try:
        if isinstance(value, SupportsFloat):
            return float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):  # as of several numbers
        pass
    raise ValueError(f"{name}: expected a number, got {shown(value)}")


def shown(value: Any) -> str:
    """A value in a line, the beginning of it if it is long."""
    return " ".join(reprlib.repr(value).split())
