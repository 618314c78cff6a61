"""Sequences with labels, as tokens and numbers: what a model is trained on, and what it is
evaluated on.

Sizes: N rows, T targets, n positions of a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hyena.arguments import plural, readable, several
from hyena.data.tokenizer import Tokenizer
from hyena.files.digests import sha256_of
from hyena.model import LanguageModel, ModelConfig
from hyena.model.label_head import Labels, LabelTask
from hyena.scoring.sequences import Reader, room

from .config import LabelsConfig
from .rows import Row, read_rows
from .targets import class_of, classes_of, names_of, targets_of, units_of

# Of the rows that are held out: the same whatever the run's seed, so that runs compare.
_HELD_OUT_SEED = 0


@dataclass(frozen=True, eq=False)
class LabelledRows:
    """Sequences and their labels.

    Attributes:
        tokens: of each row, (n,) int32, without what stands before them.
        targets: of each row: its class, (); its standardised targets, (T,) float64; or the classes
            of its positions, (n,) int64 with `hyena.arguments.IGNORE` where there is none.
    """

    tokens: list[NDArray[np.int32]]
    targets: list[NDArray[Any]]

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True, eq=False)
class LabelledData:
    """The rows of a run.

    Attributes:
        training, validation: those that it is trained and evaluated on; the latter may be none.
        labels: what the head is to say.
        tokenizer: of the tokens.
        fingerprint: of the files and the tokenizer.
        notes: on rows that are not what they seem.
    """

    training: LabelledRows
    validation: LabelledRows
    labels: Labels
    tokenizer: Tokenizer
    fingerprint: dict[str, str]
    notes: list[str]


def open_labelled(
    file: Path, config: LabelsConfig, task: LabelTask, model: ModelConfig, tokenizer: Tokenizer
) -> LabelledData:
    """Reads the rows of a run.

    Args:
        file: of the rows to train on.
        config: where in them the labels are, and what is held out.
        task: what the labels are.
        model: that is to read the sequences.
        tokenizer: of the model.

    Raises: FileNotFoundError; ValueError, in one line that names file and line, on a row that has
        no sequence, one that the model cannot read, or labels that are none.
    """
    columns = several(config.columns)
    rows = read_rows(file, config.sequence, columns)
    fingerprint = {"tokenizer": tokenizer.fingerprint, "train": sha256_of(file)}
    held_out: list[Row] = []
    if config.validation is not None:
        held_out = read_rows(config.validation, config.sequence, columns)
        fingerprint["validation"] = sha256_of(config.validation)
    names: tuple[str, ...] = tuple(columns)
    if task != "regression":
        names = names_of(_members(rows, task, columns[0]), readable(file))
    if config.validation is None and config.fraction:
        classes = [class_of(row, columns[0]) for row in rows] if task == "classification" else None
        rows, held_out = _split(rows, config.fraction, classes, readable(file))
    means: tuple[float, ...] = ()
    deviations: tuple[float, ...] = ()
    if task == "regression":
        means, deviations = units_of(rows, columns, readable(file))
    labels = Labels(
        task,
        names,
        config.pool,
        config.begin,
        means,
        deviations,
        sequence=config.sequence,
        columns=tuple(columns),
    )
    encode = _Encoder(model, tokenizer, labels)
    training, validation = (
        LabelledRows(encode.tokens(some), targets_of(some, labels, columns))
        for some in (rows, held_out)
    )
    notes = [*_notes(training, held_out, validation), *encode.unknown.notes()]
    return LabelledData(training, validation, labels, tokenizer, fingerprint, notes)


def _notes(training: LabelledRows, held_out: list[Row], validation: LabelledRows) -> list[str]:
    """On sequences that are held out and trained on all the same, as the model reads them."""
    trained = {tokens.tobytes() for tokens in training.tokens}
    pairs = zip(held_out, validation.tokens, strict=True)
    again = [row for row, tokens in pairs if tokens.tobytes() in trained]
    if not again:
        return []
    return [
        f"{len(again):,} of {len(held_out):,} {plural(len(held_out), 'row')} held out "
        f"{plural(len(again), 'has', 'have')} a sequence that is trained on as well, such as "
        f"{again[0].place}: the figures flatter"
    ]


def _members(rows: Sequence[Row], task: LabelTask, column: str) -> Iterator[tuple[str, str]]:
    """The class of each row or position, with the place of the row."""
    for row in rows:
        if task == "classification":
            yield class_of(row, column), row.place
        else:
            yield from ((one, row.place) for one in classes_of(row, column) if one is not None)


def _split(
    rows: list[Row], fraction: float, classes: list[str] | None, file: str
) -> tuple[list[Row], list[Row]]:
    """The rows to train on and those held out, at random, in their order; of each class so many
    that one is left to train on.

    Raises: ValueError if too few rows are left for one of them.
    """
    drawn = np.random.default_rng(_HELD_OUT_SEED).permutation(len(rows)).tolist()
    groups: dict[str, list[int]] = {}
    for place in drawn:
        groups.setdefault("" if classes is None else classes[place], []).append(place)
    out = {
        place
        for members in groups.values()
        for place in members[: min(round(fraction * len(members)), len(members) - 1)]
    }
    if not out and len(rows) > 1:  # of small classes: the first of the largest
        out = {max(groups.values(), key=len)[0]}
    if not out:
        raise ValueError(
            f"{file} has {len(rows)} {plural(len(rows), 'row')}, too few to hold out a share of "
            "them; give a file to labels.validation, or labels.fraction 0"
        )
    kept = [row for place, row in enumerate(rows) if place not in out]
    return kept, [row for place, row in enumerate(rows) if place in out]


class _Encoder:
    """Turns the sequences of rows into tokens that a model can read."""

    def __init__(self, model: ModelConfig, tokenizer: Tokenizer, labels: Labels) -> None:
        self._model, self._task, self._begin = model, labels.task, 1 if labels.begin else 0
        self._tokenizer = tokenizer
        self._reader = Reader(
            LanguageModel(model, device="meta"),
            tokenizer,
            both_strands=False,
            on_error="stop",
        )
        self.unknown = self._reader.unknown

    def tokens(self, rows: Sequence[Row]) -> list[NDArray[np.int32]]:
        """Of each row, (n,). Raises: ValueError that names its place if it cannot be read."""
        return [self._of_row(row) for row in rows]

    def _of_row(self, row: Row) -> NDArray[np.int32]:
        try:
            (tokens,) = self._reader.strands(row.place, row.sequence)
        except ValueError as error:
            raise ValueError(f"{row.place}: {error}") from error
        model, count, limit = self._model, len(tokens), room(self._model)
        if limit is not None and self._begin + count > limit:
            other = "" if model.has_table else ", or take model.length_policy extrapolate"
            after = " after the end of text that begins it" if self._begin else ""
            raise ValueError(
                f"{row.place}: it has {count:,} tokens, but the model has room for "
                f"{limit - self._begin:,}{after}; cut it{other}"
            )
        if model.length_policy == "interpolate" and self._begin + count > model.max_length:
            raise ValueError(
                f"{row.place}: it has {count:,} tokens, for which interpolated filters would be "
                "those of the longest row beside it; cut it, or take model.length_policy "
                "extrapolate"
            )
        if self._task == "token-classification":
            check_letters(row, self._tokenizer)
        return tokens.astype(np.int32)


def check_letters(row: Row, tokenizer: Tokenizer) -> None:
    """Raises ValueError unless a row's letters become a token each, as labels of them need."""
    tokens, count = list(tokenizer.encode(row.sequence)), len(row.sequence)
    each = {letter: list(tokenizer.encode(letter)) for letter in set(row.sequence)}
    # Equal numbers alone could be of a letter of two tokens and two letters of one.
    if any(len(one) != 1 for one in each.values()) or tokens != [
        each[letter][0] for letter in row.sequence
    ]:
        raise ValueError(
            f"{row.place}: {count:,} {plural(count, 'letter')} became {len(tokens):,} "
            f"{plural(len(tokens), 'token')} that are not one for each, as their labels need; use "
            "a tokenizer such as bytes, hyenadna or evo"
        )
