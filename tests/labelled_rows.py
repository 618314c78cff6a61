"""Files of sequences with labels, and a small model to begin with."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hyena.data import load_tokenizer
from hyena.model import LanguageModel, ModelConfig

BYTES = load_tokenizer("bytes")
TASKS = ("classification", "regression", "token-classification")


def sequences(count: int, seed: int = 0) -> list[str]:
    """DNA of 5 to 14 letters, some rich in G and C and some poor."""
    draw = np.random.default_rng(seed)
    found = []
    for i in range(count):
        strong = 0.8 if i % 2 else 0.2
        share = [strong / 2, strong / 2, (1 - strong) / 2, (1 - strong) / 2]
        found.append("".join(draw.choice(list("GCAT"), draw.integers(5, 15), p=share)))
    return found


def rows(task: str, count: int, seed: int = 0) -> list[tuple[str, Any]]:
    """Sequences and what can be seen in them: richness, its share, or each letter's strength."""
    found: list[tuple[str, Any]] = []
    for i, text in enumerate(sequences(count, seed)):
        strong = [letter in "GC" for letter in text]
        if task == "classification":
            found.append((text, "rich" if i % 2 else "poor"))
        elif task == "regression":
            found.append((text, 10 + 4 * sum(strong) / len(text)))
        else:
            found.append((text, "".join("S" if x else "w" for x in strong)))
    return found


def write_table(
    file: Path, table: Iterable[tuple[Any, ...]], columns: str = "sequence label"
) -> Path:
    """A file with tabs below a line of names."""
    lines = ["\t".join(columns.split()), *("\t".join(map(str, row)) for row in table)]
    file.write_text("".join(f"{line}\n" for line in lines))
    return file


def write_lines(file: Path, records: Iterable[Any]) -> Path:
    """A file of JSON Lines."""
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return file


def base_model(folder: Path, **settings: Any) -> Path:
    """A saved model of bytes with its tokenizer."""
    values: dict[str, Any] = {"vocab_size": 257, "width": 8, "layers": 2, "mlp_width": 16}
    values |= {"mixers": "hyena,attention", "head_dim": 4, "max_length": 16}
    config = ModelConfig(**{**values, **settings})
    LanguageModel(config, generator=torch.Generator().manual_seed(3)).save(folder)
    BYTES.save(folder)
    return folder
