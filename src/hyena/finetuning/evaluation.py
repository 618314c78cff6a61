"""How well a fine-tuned model predicts the labels of a file.

Sizes: n tokens of a sequence, C classes, T targets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hyena.arguments import IGNORE, readable, several
from hyena.data import Document
from hyena.data.tokenizer import Tokenizer
from hyena.model import LanguageModel
from hyena.model.label_head import Labels
from hyena.model.label_outputs import label_head_of
from hyena.scoring.sequences import require_tokenizer

from .data import check_letters
from .metrics import ClassTally, Metrics, NumberTally
from .predictions import Prediction, predict
from .rows import read_rows
from .targets import targets_of


@dataclass(frozen=True)
class LabelEvaluation:
    """What `evaluate_labels` found."""

    rows: int
    """How many the file has."""
    metrics: Metrics
    """Of classes ``accuracy``, ``f1``, ``mcc`` and ``loss``; of numbers ``pearson``, ``rmse`` and
    ``loss``: those of an evaluation in training, see docs/finetuning.md."""


def evaluate_labels(
    model: LanguageModel,
    tokenizer: Tokenizer,
    file: str | Path,
    *,
    sequence: str | None = None,
    columns: Sequence[str] | str | None = None,
    both_strands: bool = False,
    batch: int = 8,
    progress: Callable[[int, int], object] = lambda done, rows: None,
) -> LabelEvaluation:
    """How well `predict` gives the labels of all rows of a file.

    Args:
        model, tokenizer, both_strands, batch: as in `predict`.
        file: a table, ``.tsv`` or ``.csv``, or ``.jsonl``, packed with gzip or not.
        sequence: column of the sequences; None means the one that it was trained on.
        columns: column of the labels, or of several targets a list of them; None means those that
            it was trained on.
        progress: called with the rows done and all of them.

    Raises: as `predict`; FileNotFoundError if there is no such file; ValueError, in one line that
        names file and line, on a row without a sequence that can be read, or with labels that the
        model was not trained for.
    """
    labels, path = label_head_of("evaluate_labels", model).labels, Path(file)
    require_tokenizer(tokenizer)
    names = _columns(columns, labels)
    rows = read_rows(path, labels.sequence if sequence is None else sequence, names)
    targets = [torch.from_numpy(np.asarray(one)) for one in targets_of(rows, labels, names)]
    if labels.task == "token-classification":
        for row in rows:
            check_letters(row, tokenizer)
        if not any(bool((target != IGNORE).any()) for target in targets):
            raise ValueError(f"{readable(path)}: no letter of any row has a label to compare with")
    documents = (Document(row.place, row.sequence) for row in rows)
    found = predict(model, tokenizer, documents, both_strands=both_strands, batch=batch)
    numbers = NumberTally(labels, torch.stack(targets)) if labels.task == "regression" else None
    classes = ClassTally(labels)
    for place, (one, target) in enumerate(zip(found, targets, strict=True)):
        if numbers is not None:
            numbers.add([place], _standardised(one, labels))
        else:
            classes.add(*_known(one, target))
        progress(place + 1, len(rows))
    return LabelEvaluation(len(rows), (numbers or classes).metrics())


def _columns(given: Sequence[str] | str | None, labels: Labels) -> list[str]:
    """Those of the labels. Raises: ValueError if they are not as many as the model gives."""
    regression = labels.task == "regression"
    if given is None:
        return list(labels.names if regression else labels.columns)
    columns = several(given)
    if len(columns) != (len(labels.names) if regression else 1):
        wanted = f"one for each of {', '.join(labels.names)}" if regression else "one"
        raise ValueError(
            f"columns: expected {wanted}, got {', '.join(map(str, columns)) or 'none'}"
        )
    return columns


def _standardised(one: Prediction, labels: Labels) -> Tensor:
    """The numbers of a sequence as the head gives them, (1, T)."""
    assert one.values is not None
    found = (one.values - np.array(labels.means)) / np.array(labels.deviations)
    return torch.from_numpy(found)[None]


def _known(one: Prediction, target: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (n, C) and classes (n,) of a sequence, or of its letters that have one."""
    assert one.probabilities is not None
    logits, flat = torch.from_numpy(one.probabilities).log(), target.reshape(-1)
    return logits.reshape(len(flat), -1)[flat != IGNORE], flat[flat != IGNORE]
