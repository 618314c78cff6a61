"""Cases measured one after the other and kept in a folder, so that an interrupted run goes on.

A measured case is a file ``parts/cells/<key>.json``. When all are there, ``results.json`` has them
together with the goals, and ``table.md`` and drawings show them.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from hyena.arguments import plural
from hyena.files.atomic import write_text
from hyena.files.records import read_json

Result = dict[str, Any]
"""What became of a case, as it is written to JSON. It has the case itself, as "cell" or "row"; why
contenders were "skipped"; and instead of figures "failed", one line, if there are none."""

CELLS, SETTING, LIMITS = "parts/cells", "parts/setting.json", "parts/limits.json"


class Case(Protocol):
    """What the cases of all benchmarks have."""

    @property
    def key(self) -> str:
        """The name of the case and of its file."""

    @property
    def contenders(self) -> tuple[str, ...]:
        """The names of ours and of the baselines."""


C = TypeVar("C", bound=Case)


def run(
    cases: Sequence[C],
    out: Path,
    measure: Callable[[C, Mapping[str, Result]], Result],
    *,
    progress: Callable[[int], object] = lambda done: None,
    say: Callable[[str], None] = print,
) -> dict[str, Result]:
    """Measures the cases that a folder does not hold yet.

    Args:
        cases: in the order of measurement.
        out: the folder, opened by `open_folder`.
        measure: is given a case and the results so far by key.
        progress: called with the number of cases that are done.
        say: is given a line for each case that was measured.

    Returns: all results of the folder by key, also those of cases that were not asked for.
    Raises: ValueError if a file of the folder is damaged.
    """
    results = read(out)
    todo = [case for case in cases if not _is_done(case, results.get(case.key))]
    if len(todo) < len(cases):
        there = len(cases) - len(todo)
        of, are = plural(len(cases), "case"), plural(there, "is", "are")
        say(f"{there} of {len(cases)} {of} {are} there already")
    for done, case in enumerate(todo, len(cases) - len(todo)):
        progress(done)
        results[case.key] = measure(case, results)
        write_json(out / CELLS / f"{case.key}.json", results[case.key])
        say(f"{case}: {outcome(results[case.key])}")
    progress(len(cases))
    return read(out)


def _is_done(case: Case, result: Result | None) -> bool:
    """Whether a result has all that is asked for; what failed is tried again."""
    if result is None or "failed" in result:
        return False
    there = result["cell"] if "cell" in result else result["row"]
    return set(case.contenders) <= set(there["contenders"])


def outcome(result: Result) -> str:
    """One line: the medians, or the errors, or why there is nothing."""
    if "failed" in result:
        return str(result["failed"])
    if "times" in result:
        found = [f"{name} {1e3 * t['median']:.4g} ms" for name, t in result["times"].items()]
    else:
        worst = {name: max(errors.values()) for name, errors in result["errors"].items()}
        found = [f"{name} differs by {error:.1e}" for name, error in worst.items()]
    return ", ".join([*found, *(f"{name} left out" for name in result["skipped"])])


def open_folder(out: Path, setting: Mapping[str, Any], *, again: str = "--fresh true") -> None:
    """Makes the folder, or checks that its results are of the same setting; ValueError if not,
    which names ``again``, the option that measures all again."""
    file = out / SETTING
    if not file.is_file():
        write_json(file, setting)
        return
    there = _read(file)
    different = sorted(name for name in setting if there.get(name) != setting[name])
    if different:
        name = different[0]
        raise ValueError(
            f"{out} holds results of another setting: {name} is {setting[name]!r} now and was "
            f"{there.get(name)!r} there; choose another folder with --out, or measure all "
            f"again with {again}"
        )


def read(out: Path) -> dict[str, Result]:
    """The results in a folder by key. Raises: ValueError if a file is damaged."""
    return {file.stem: _read(file) for file in sorted((out / CELLS).glob("*.json"))}


def read_limits(out: Path) -> dict[str, float]:
    """What `hyena.bench.convolution.limits.limits` found; empty if it failed or was not asked."""
    found = _read(out / LIMITS) if (out / LIMITS).is_file() else {}
    return {} if "failed" in found else found


def clear(out: Path) -> None:
    """Removes the results of earlier runs from a folder."""
    for file in (out / SETTING, out / LIMITS, *(out / CELLS).glob("*.json")):
        file.unlink(missing_ok=True)


def write_json(file: Path, value: Mapping[str, Any]) -> None:
    """Replaces a file, of which there is never half, whenever the process is stopped."""
    write_text(file, json.dumps(value, indent=1) + "\n")


def _read(file: Path) -> Result:
    return read_json(file, advice="remove it")
