"""Refusals of values that cannot be, in one form: ``steps: expected at least 1, got 0``.

Each takes an object, names of its fields, dotted where they are of a part, and what stands before
them in the message. A value of None was not given, and is refused by none. All raise ValueError.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from numbers import Real
from operator import attrgetter, ge, le
from typing import Any, get_args

from hyena.arguments import shown


def check(
    owner: object, names: Iterable[str], fits: Callable[[Any], bool], expected: str, of: str = ""
) -> None:
    """Refuses a value that does not fit."""
    for name in names:
        value = attrgetter(name)(owner)
        if value is not None and not _is_so(fits, value):
            raise ValueError(f"{of}{name}: expected {expected}, got {shown(value)}")


def _check_number(
    owner: object, names: Iterable[str], fits: Callable[[Any], bool], expected: str, of: str = ""
) -> None:
    """Refuses what is no number as well: a tensor of one compares like it, but no file holds it."""
    check(owner, names, lambda x: isinstance(x, Real) and fits(x), expected, of)


def _is_so(fits: Callable[[Any], bool], value: Any) -> bool:
    try:
        return bool(fits(value))
    except (TypeError, ValueError, RuntimeError, OverflowError):  # as of what is no number
        return False


def check_least(owner: object, least: Mapping[str, int], of: str = "") -> None:
    """Refuses what is below its least value."""
    for name, bound in least.items():
        _check_number(owner, [name], partial(le, bound), f"at least {bound}", of)


def check_most(owner: object, most: int, *names: str, of: str = "") -> None:
    """Refuses what is above ``most``."""
    _check_number(owner, names, partial(ge, most), f"at most {most:,}", of)


def check_positive(owner: object, *names: str, of: str = "") -> None:
    """Refuses 0, what is below it, and what is not finite."""
    _check_number(owner, names, lambda x: math.isfinite(x) and x > 0, "a positive number", of)


def check_not_negative(owner: object, *names: str, of: str = "") -> None:
    """Refuses what is below 0 or not finite."""
    _check_number(owner, names, lambda x: math.isfinite(x) and x >= 0, "0 or a positive number", of)


def check_share(owner: object, *names: str, of: str = "") -> None:
    """Refuses what is no share, or none at all."""
    _check_number(owner, names, lambda x: 0 < x <= 1, "a share, above 0 up to 1", of)


def check_choice(owner: object, kinds: Mapping[str, Any], of: str = "") -> None:
    """Refuses what is not in the Literal of a field."""
    for name, kind in kinds.items():
        choices = get_args(kind)
        check(owner, [name], choices.__contains__, f"one of {', '.join(choices)}", of)


def check_seed(owner: object) -> None:
    """Refuses a seed that is not of 64 bits."""
    _check_number(owner, ["seed"], lambda x: 0 <= x < 2**64, "at least 0 and below 2^64")
