"""Results of generation as a run would leave them, with times that are easy to reckon with."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from hyena.bench.generation.cases import Case

# Milliseconds a token; of a name that is not here, 1.
MS = {"distilled": 0.5, "attention": 30.0, "dot": 8.0, "full": 200.0, "hyena_bf16": 0.5}
READS = {"read_sum": 0.8, "read_mv": 0.9, "read_kernel": 0.85}
STATES = {"hyena": 2**20, "distilled": 2**18, "attention": 2**27}


def timing(median: float, tokens: int = 256) -> dict[str, float]:
    return {
        "median": median,
        "lower": 0.9 * median,
        "upper": 1.1 * median,
        "samples": 3,
        "tokens": tokens,
        "p99": 2 * median,
        "worst": 3 * median,
    }


def result(row: Case, milliseconds: Mapping[str, float] | None = None) -> dict[str, Any]:
    """What a row's file holds."""
    record: dict[str, Any] = {"row": asdict(row), "skipped": {}}
    ms = {**MS, **READS, **(milliseconds or {})}
    record["times"] = {
        name: timing(1e-3 * ms.get(name, 1.0), _tokens(row, name)) for name in row.contenders
    }
    checked = [name for name in row.contenders if name not in READS]
    record["errors"] = {name: 1e-7 for name in checked}
    record["held"] = {name: STATES.get(name, 2**19) for name in checked}
    if row.kind in ("model", "weights", "quantized"):
        sizes = {name: 2**20 if name == "hyena_bf16" else 2**21 for name in checked}
        record["facts"] = {
            name: {"parameters": 2**19, "read_bytes": size} for name, size in sizes.items()
        }
    return record


def _tokens(row: Case, name: str) -> int:
    return int(name.removeprefix("L=")) if name.startswith("L=") else row.tokens


def results(rows: Sequence[Case]) -> dict[str, dict[str, Any]]:
    return {row.key: result(row) for row in rows}
