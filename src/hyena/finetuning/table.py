"""Predictions as a file with tabs."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hyena.model.label_head import Labels
from hyena.scoring.outputs import Column


def columns_of(labels: Labels) -> dict[str, Column]:
    """The columns of predictions, with their kinds."""
    what = "predicted" if labels.task == "regression" else "probability"
    numbers: dict[str, Column] = {f"{what}_{name}": "float64" for name in labels.names}
    found: dict[str, Column] = {"index": "int64", "name": "string", "tokens": "int64"}
    if labels.task == "token-classification":
        return {**found, "labels": "string", "probabilities": "list", "skipped": "string"}
    if labels.task == "classification":
        found["label"] = "string"
    return {**found, **numbers, "skipped": "string"}


def write_tsv(path: Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Writes rows below a line of the columns' names; what a row lacks is empty, and the numbers of
    a list have commas between them. Raises: OSError."""
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n")
        table.writerow(columns)
        for row in rows:
            table.writerow([_cell(row.get(column, "")) for column in columns])


def _cell(value: Any) -> Any:
    return ",".join(map(repr, value)) if isinstance(value, list) else value
