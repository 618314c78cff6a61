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
from hyena.model.label_head import Labels

from .rows import Row

_FARTHEST = 1e15  # deviations from the mean


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
        apart = [one for one in found if one is not None and len(one.split()) > 1]
        if apart:
            raise ValueError(
                f"{row.place}: class {apart[0]!r:.60} in column {column!r} has white space, which "
                "stands between the classes of letters; take another sign, such as _"
            )
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


def targets_of(rows: Sequence[Row], labels: Labels, columns: Sequence[str]) -> list[NDArray[Any]]:
    """The labels of rows as `LabelledRows` has them.

    Raises: ValueError, naming the row, on what is none of the labels.
    """
    if labels.task == "regression":
        return list(_standardised(rows, labels, columns))
    places = {name: place for place, name in enumerate(labels.names)}
    (column,) = columns
    if labels.task == "classification":
        return [np.array(place_of_class(class_of(row, column), places, row.place)) for row in rows]
    return [places_of_classes(classes_of(row, column), places, row.place) for row in rows]


def units_of(
    rows: Sequence[Row], columns: Sequence[str], file: str
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Means and standard deviations of the targets of the rows that are trained on.

    Raises: ValueError if one is the same number in all rows, or so large or so small that float64
        has no square of it.
    """
    targets = _numbers_of(rows, columns)
    with np.errstate(over="ignore", invalid="ignore"):  # told below
        means, deviations = targets.mean(0), targets.std(0)
    least, most = targets.min(0), targets.max(0)
    for i, column in enumerate(columns):
        mean, deviation = means[i], deviations[i]
        known = 0 < deviation < math.inf
        if least[i] == most[i] or (known and deviation <= 1e-12 * abs(mean)):
            raise ValueError(
                f"{file}: column {column!r} has the same number, {most[i]:g}, in all rows that are "
                "trained on; leave it out"
            )
        if not known:
            raise ValueError(
                f"{file}: column {column!r} has numbers from {least[i]:g} to {most[i]:g}, whose "
                "squares are beyond what float64 can hold; give them in another unit"
            )
    return tuple(means.tolist()), tuple(deviations.tolist())


def _numbers_of(rows: Sequence[Row], columns: Sequence[str]) -> NDArray[np.float64]:
    """The targets of rows as they stand in the file, (n, T)."""
    found = [numbers_of(row, columns) for row in rows]
    return np.array(found, dtype=np.float64).reshape(len(rows), len(columns))


def _standardised(
    rows: Sequence[Row], labels: Labels, columns: Sequence[str]
) -> NDArray[np.float64]:
    """The targets of rows (n, T) less their means, over their deviations.

    Raises: ValueError, naming the row, if one is so far from the mean that its error would have no
        square in float32.
    """
    targets = _numbers_of(rows, columns)
    with np.errstate(over="ignore"):
        found = (targets - np.array(labels.means)) / np.array(labels.deviations)
    far = np.argwhere(~(np.abs(found) < _FARTHEST))
    if len(far):
        row, column = far[0].tolist()
        mean, deviation = labels.means[column], labels.deviations[column]
        raise ValueError(
            f"{rows[row].place}: {targets[row, column]:g} in column {columns[column]!r} is "
            f"out of all proportion to the rows that are trained on, whose mean is {mean:g} and "
            f"deviation {deviation:g}; correct it"
        )
    return found


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
