"""The losses by position of several models in one JSON file, and the figure beside it."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from hyena.evaluation import PositionLosses
from hyena.files.records import read_record, write_record
from hyena.plots import draw_positions

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Curve:
    """What was measured of one model.

    Attributes:
        name: what the figure calls it.
        model: the folder of the model.
        mixers: of its layers.
        max_length: that its filters were built for.
        length_policy: what happened beyond.
        length: of the windows.
        found: the losses.
    """

    name: str
    model: str
    mixers: str
    max_length: int
    length_policy: str
    length: int
    found: PositionLosses


@dataclass(frozen=True)
class Curves:
    """The curves of a file, which are all of one text and in its tokens.

    Attributes:
        text: what the text is called.
        tokenizer: the fingerprint of the tokenizer.
        curves: in the order in which they came.
    """

    text: str
    tokenizer: str
    curves: list[Curve]


def read_curves(path: Path, text: str, tokenizer: str) -> Curves:
    """What a file holds, nothing yet if it is not there.

    Raises: ValueError if it is damaged, or of another text or tokenizer: losses of a token of one
        do not compare with those of another.
    """
    if not path.exists():
        return Curves(text, tokenizer, [])
    there = read_record(path, Curves, FORMAT_VERSION, advice="choose another file")
    if (there.text, there.tokenizer) != (text, tokenizer):
        what = there.text if there.text != text else "the tokens of another tokenizer"
        raise ValueError(
            f"by_position: {path} holds losses on {what}, which do not compare with those on "
            f"{text}; choose another file"
        )
    return there


def add_curve(path: Path, there: Curves, curve: Curve) -> Path:
    """Writes the file with a curve more, in place of one of the same name, and draws all.

    Returns: the figure's path.
    Raises: OSError if a file cannot be written; ImportError without matplotlib, when the file is
        written.
    """
    curves = [*(one for one in there.curves if one.name != curve.name), curve]
    write_record(path, Curves(there.text, there.tokenizer, curves), FORMAT_VERSION)
    return draw_positions(
        {one.name: points(one.found) for one in curves},
        path.with_suffix(".png"),
        marks=sorted({one.max_length for one in curves if one.max_length < one.length}),
    )


def points(found: PositionLosses) -> list[tuple[float, float]]:
    """The middle of each bin, and the loss in it."""
    middles = [(first + last) / 2 for first, last in pairwise(found.edges)]
    return list(zip(middles, found.losses, strict=True))
