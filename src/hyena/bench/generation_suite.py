"""The benchmark of generation from its rows to its files; see `hyena.cli.bench`."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hyena.bench.generation_drawings import draw
from hyena.bench.generation_goals import goals
from hyena.bench.generation_report import report
from hyena.bench.generation_rows import Row, quick, rows
from hyena.bench.goals import Results
from hyena.ops.stepping import online

SECONDS = 6.0
"""Budget of a contender of a row that need not do all its tokens."""


def chosen(contexts: Sequence[int] | None, *, small: bool, large: bool, memory: bool) -> list[Row]:
    """The rows that are asked for.

    Args: only rows of these contexts; a little of everything; the large model at long contexts too;
        rows of memory.
    Raises: ValueError if there are none.
    """
    found = quick() if small else rows(large=large)
    if contexts is not None:
        found = [row for row in found if row.context in contexts]
    if not memory:
        found = [row for row in found if row.kind != "memory"]
    if not found:
        raise ValueError(
            f"no row of the suite generate has lengths {json.dumps(contexts)}; leave them out"
        )
    return found


def setting(seconds: float, repeats: int | None) -> dict[str, Any]:
    """What the results of a folder have in common, besides what all benchmarks say."""
    given = {
        name: value
        for name, value in os.environ.items()
        if name in ("LD_PRELOAD", "GLIBC_TUNABLES") or name.startswith("MALLOC_")
    }
    allocator = " ".join(f"{name}={value}" for name, value in sorted(given.items()))
    return {
        "allocator": allocator or "the system's default",
        "block": online.BLOCK,
        "seconds": seconds,
        "repeats": repeats or "those of the rows",
    }


def write(out: Path, results: Results, where: Mapping[str, Any]) -> None:
    """``results.json``, ``table.md`` and the drawing."""
    figures = []
    for goal in goals():
        found = goal.measure(results)
        row = {name: value for name, value in asdict(goal).items() if name != "measure"}
        row["measured"] = None if found is None else found._asdict()
        figures.append({**row, "met": None if found is None else goal.met(found)})
    document = {"setting": where, "goals": figures, "rows": results}
    (out / "results.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    (out / "table.md").write_text(report(results, where), encoding="utf-8")
    draw(results, out)
