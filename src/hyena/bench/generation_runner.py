"""Rows measured one after the other and kept in a folder, so that an interrupted run goes on.

A finished row is a file ``parts/cells/<key>.json``, as of the other benchmarks.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hyena.bench.generation_measure import Result, measure
from hyena.bench.generation_rows import Row
from hyena.bench.runner import CELLS, open_folder, read


def run(
    rows: Sequence[Row],
    out: Path,
    setting: Mapping[str, Any],
    *,
    seconds: float,
    repeats: int | None = None,
    progress: Callable[[int], None] | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Result]:
    """Measures the rows that the folder does not hold yet, in this process.

    Args:
        rows: in the order of measurement.
        out: the folder.
        setting: what the folder's results must have in common.
        seconds, repeats: as of `hyena.bench.generation_measure.measure`.
        progress: called with the number of rows that are done.
        say: is given a line for each row that was measured.

    Returns: all results of the folder by key.
    Raises: ValueError if the folder's results are of another setting, or a file is damaged.
    """
    open_folder(out, setting)
    there = read(out)
    todo = [row for row in rows if not _is_done(row, there.get(row.key))]
    if len(todo) < len(rows):
        say(f"{len(rows) - len(todo)} of {len(rows)} rows are there already")
    for row in todo:
        if progress is not None:
            progress(len(rows) - len(todo) + todo.index(row))
        result = measure(row, seconds=seconds, repeats=repeats)
        _write(out / CELLS / f"{row.key}.json", result)
        say(f"{row}: {outcome(result)}")
    if progress is not None:
        progress(len(rows))
    return read(out)


def outcome(result: Result) -> str:
    """One line: the time of each contender's token, or its memory, or why there is none."""
    if "failed" in result:
        return str(result["failed"])
    if "memory" in result:
        memory = {name: found["state"] / 2**20 for name, found in result["memory"].items()}
        return ", ".join(f"{name} {mebibytes:.3g} MiB" for name, mebibytes in memory.items())
    times = {name: 1e3 * found["median"] for name, found in result["times"].items()}
    left_out = [f"{name} left out" for name in result["skipped"]]
    return ", ".join([*(f"{name} {time:.4g} ms" for name, time in times.items()), *left_out])


def _is_done(row: Row, result: Result | None) -> bool:
    """Whether a result has all that is asked for; what failed is tried again."""
    if result is None or "failed" in result:
        return False
    return set(row.contenders) <= set(result["row"]["contenders"])


def _write(file: Path, value: Mapping[str, Any]) -> None:
    """Under another name first, so that there is never half a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    os.replace(part, file)
