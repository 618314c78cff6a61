"""What an argument of any kind but a tensor must be; one clear line where it is not.

Needs no PyTorch, so that text can be prepared without it; `hyena.ops.arguments` is about tensors.
"""

import math
import reprlib
from operator import index
from pathlib import Path
from typing import Any, SupportsFloat

LONGEST = 2**31  # positions, so that products of sizes fit in 64 bits

IGNORE = -100
"""Target of a position without loss, which `torch.nn.functional.cross_entropy` skips by default."""


class _Beginning(reprlib.Repr):
    """Of a value that may be very long; a message cuts it again."""

    def repr_int(self, x: int, level: int) -> str:
        """Python refuses to write out an int of thousands of digits."""
        digits = int(math.log10(abs(x) or 1)) + 1
        return super().repr_int(x, level) if digits < 1000 else f"an int of some {digits} digits"


_BEGINNING = _Beginning()
_BEGINNING.maxlist = _BEGINNING.maxtuple = _BEGINNING.maxset = _BEGINNING.maxdict = 30
_BEGINNING.maxstring = _BEGINNING.maxlong = _BEGINNING.maxother = 200


def check_whole(
    name: str, value: Any, least: int | None = 1, most: int | None = LONGEST, *, why: str = ""
) -> int:
    """The value as an int, be it of NumPy or PyTorch; ``why`` says what the least is for.

    Raises: ValueError unless it is a whole number from ``least`` to ``most``, where these are
        given; a truth value is none.
    """
    whole = as_whole(value)
    if whole is None:
        raise ValueError(f"{name}: expected a whole number, got {shown(value)}")
    if least is not None and whole < least:
        why = f", for {why}" if why else ""
        raise ValueError(f"{name}: expected at least {least}{why}, got {shown(whole)}")
    if most is not None and whole > most:
        raise ValueError(f"{name}: expected at most {most}, got {shown(whole)}")
    return whole


def as_whole(value: Any) -> int | None:
    """The value as an int, be it of NumPy or PyTorch; None if it is no whole number, such as a
    truth value, or if it is not known, as on the device "meta"."""
    try:
        return None if is_truth(value) else index(value)
    except (TypeError, RuntimeError):
        return None


def is_truth(value: Any) -> bool:
    """Whether it is a truth value, be it of NumPy or PyTorch, or an array of them."""
    return isinstance(value, bool) or str(getattr(value, "dtype", "")).endswith("bool")


def several(value: Any) -> list[Any]:
    """The items of a list or the like; the value alone, in a list, if it is a text or no list."""
    try:
        return [value] if isinstance(value, str) else list(value)
    except TypeError:
        return [value]


def token_ids(name: str, ids: Any, vocab_size: int, advice: str = "") -> list[int]:
    """The ids of tokens, be they of NumPy or PyTorch.

    Raises: ValueError, which ends with ``advice`` if they are no integers one after the other.
    """
    try:
        # Most are ints.
        values = [x if type(x) is int else check_whole(name, x, None, None) for x in ids]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: expected token ids, got {shown(ids)}{advice}") from error
    for value in values:
        if not 0 <= value < vocab_size:
            raise ValueError(
                f"{name}: token id {shown(value)} is outside the vocabulary of {vocab_size}; "
                "was the text tokenized with another tokenizer?"
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


def plural(count: int, one: str, several: str = "") -> str:
    """What stands after a number: ``one`` after 1, else ``several``, which is ``one`` and an s."""
    return one if count == 1 else several or f"{one}s"


def shown(value: object) -> str:
    """A value of any kind in a message: one line, not long."""
    text = " ".join(_BEGINNING.repr(value).split())
    return text if len(text) <= 60 else f"{text[:59]}…"


def readable(path: Path) -> str:
    """A path in a message: in one line, whatever is in it."""
    text = str(path)
    return text if text.isprintable() else repr(text)[1:-1]
