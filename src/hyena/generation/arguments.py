"""Arguments of generation that are of a wrong kind, as one clear line."""

from __future__ import annotations

import reprlib
from operator import index
from typing import Any, SupportsFloat


def whole_number(name: str, value: Any) -> int:
    """The value as an int, be it of NumPy or PyTorch.

    Raises: ValueError if it is something else.
    """
    try:
        return index(value)
    except TypeError as error:
        raise ValueError(f"{name}: expected an integer, got {shown(value)}") from error


def check_number(name: str, value: Any) -> None:
    """Raises ValueError if the value is no number."""
    if not isinstance(value, SupportsFloat):
        raise ValueError(f"{name}: expected a number, got {shown(value)}")


def shown(value: Any) -> str:
    """A value in a line, the beginning of it if it is long."""
    return " ".join(reprlib.repr(value).split())
