"""What a model is trained for, and where the labels are that it is to give."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hyena.model.label_head import Pool

Task = Literal["language-modeling", "classification", "regression", "token-classification"]

LANGUAGE_MODELING = "language-modeling"


@dataclass
class LabelsConfig:
    """Sequences with labels, for every task but language-modeling."""

    sequence: str = "sequence"
    """Column of the sequences."""
    columns: list[str] | str = "label"
    """Column of the labels, or of a regression with several targets a list of columns."""
    validation: Path | None = None
    """File of the rows to evaluate on; none takes a share of the training file."""
    fraction: float = 0.1
    """Share of the rows that is held out to evaluate on if there is no file of them; 0 holds none
    out."""
    pool: Pool = "mean"
    """What the head reads of a sequence: the mean over its tokens, or the last one, which has read
    all others. Of labels for each position it reads each."""
    begin: bool = True
    """Put the end of text before each sequence, as before each document in training."""
    tokenizer: str | None = None
    """Tokenizer, if none is saved with the model: see `hyena prepare --help`."""
