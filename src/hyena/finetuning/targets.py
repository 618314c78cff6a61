"""Labels of rows as numbers: classes by their places among all, and the targets of a regression.

Sizes: n rows or positions, T targets.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyena.arguments import IGNORE, plural, shown

from .rows import Row


def class_of(row: Row, column: str) -> str:
    """The class of a row: a text, or of JSON a whole number or a truth value, which is named
    ``true`` or ``false``. Raises: ValueError on anything else."""
    (label,) = row.labels
    return _class(label, row.place, column)


def classes_of(row: Row, column: str) -> list[str | None]:
    """The classes of a row's positions, None where there is none.

    They are a text with a character for each letter of the sequence, or with white space between
    the classes; or of JSON a list of classes, with null for none.

    Raises: ValueError if they are none, or not as many as the letters.
    """
    (label,) = row.labels
    found: list[str | None]
    if isinstance(label, list):
        found = [None if one is None else _class(one, row.place, column) for one in label]
    elif isinstance(label, str):
        words = label.split()
        found = list(words if len(words) > 1 or len(row.sequence) == 1 else label.strip())
    else:
        raise ValueError(
            f"{row.place}: expected a class for each letter in column {column!r}, a text or a "
            f"list, got {shown(label)}"
        )
    if len(found) != len(row.sequence):
        raise ValueError(
            f"{row.place}: the sequence has {len(row.sequence):,} "
            f"{plural(len(row.sequence), 'letter')}, but column {column!r} {len(found):,} "
            f"{plural(len(found), 'label')}; give each letter one"
        )
    return found


def numbers_of(row: Row, columns: Sequence[str]) -> list[float]:
    """The targets of a row. Raises: ValueError on what is no finite number."""
    return [_number(x, row.place, name) for x, name in zip(row.labels, columns, strict=True)]


def names_of(places: Iterable[tuple[str, str]], file: str) -> tuple[str, ...]:
    """The names of all classes in their order: numbers by size, or texts by their characters.

    Args:
        places: each class that a row or a position has, and the place of the row.
        file: for the message.

    Raises: ValueError if there is one class alone, or one that has a single member, which mostly is
        a misprint, and cannot be both trained on and evaluated.
    """
    members: Counter[str] = Counter()
    first: dict[str, str] = {}
    for name, place in places:
        members[name] += 1
        first.setdefault(name, place)
    alone = [name for name, count in members.items() if count == 1]
    if alone:
        raise ValueError(
            f"{first[alone[0]]}: class {alone[0]!r} has this one member"
            + (f", and {len(alone) - 1:,} more have but one" if len(alone) > 1 else "")
            + "; give two or more of each class"
        )
    if len(members) < 2:
        raise ValueError(
            f"{file}: expected two classes or more, got {', '.join(map(repr, members)) or 'none'}"
        )
    if all(re.fullmatch(r"[+-]?\d{1,18}", name) for name in members):
        return tuple(sorted(members, key=lambda name: (int(name), name)))
    return tuple(sorted(members))


def place_of_class(name: str, names: dict[str, int], place: str) -> int:
    """The place of a class among all. Raises: ValueError if it is none of them."""
    if name not in names:
        raise ValueError(
            f"{place}: class {name!r} is none of those trained on: "
            f"{', '.join(map(repr, names)):.200}"
        )
    return names[name]


def places_of_classes(
    classes: Sequence[str | None], names: dict[str, int], place: str
) -> NDArray[np.int64]:
    """The places of the classes of positions, and `IGNORE` where there is none: (n,)."""
    found = [IGNORE if one is None else place_of_class(one, names, place) for one in classes]
    return np.array(found, dtype=np.int64)


def units_of(
    targets: NDArray[np.float64], columns: Sequence[str], file: str
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Means and standard deviations of the targets (n, T) that are trained on.

    Raises: ValueError if one is the same number in all rows.
    """
    means, deviations = targets.mean(0), targets.std(0)
    for column, mean, deviation in zip(columns, means, deviations, strict=True):
        if not math.isfinite(deviation) or deviation <= 1e-12 * abs(mean):
            raise ValueError(
                f"{file}: column {column!r} has the same number, {mean:g}, in all rows that are "
                "trained on; leave it out"
            )
    return tuple(means.tolist()), tuple(deviations.tolist())


def _class(label: Any, place: str, column: str) -> str:
    if isinstance(label, str) and label.strip():
        return label.strip()
    if isinstance(label, bool):
        return str(label).lower()
    if isinstance(label, int):
        return str(label)
    raise ValueError(
        f"{place}: expected a class in column {column!r}, a text or a whole number, got "
        f"{shown(label)}"
    )


def _number(value: Any, place: str, column: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(
            f"{place}: expected a finite number in column {column!r}, got {shown(value)}"
        )
    return number
