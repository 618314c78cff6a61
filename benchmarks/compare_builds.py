"""Compares the speed of two builds of hyena: every row of our own of `hyena bench goals` and
`hyena bench generate`, without rivals.

    .venv/bin/python benchmarks/compare_builds.py --old /path/to/old/.venv/bin/python --out FOLDER

The rows come from the build whose Python runs this. Each build measures in processes of its own:
one for the rows under the default allocator, one for those under the tuned allocator, one for
generation. The builds take turns, A B, B A, …, so that whatever else changes on the machine meets
both alike. A pair of processes gives one ratio new/old a row. The table has the median of the
ratios, and the 95% interval of their mean: Student's t over the logarithms of the ratios.

Writes `builds.json` and `builds.md` into FOLDER. The exit status is 1 if a row is slower (its
interval lies above the limit), failed, or has other numbers in the two builds.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hyena.bench import generation
from hyena.bench.allocator import environment, why_not_tuned
from hyena.bench.convolution import cases
from hyena.bench.generation.mixers import STATE
from hyena.files.atomic import write_text
from hyena.files.markdown import table

LIMIT = 1.05
# Relative L2 differences of a row's numbers between builds, above which they do not compute alike.
TOLERANCE, BF16_TOLERANCE = 1e-3, 5e-2
MOST_PAIRS = 30

Row = dict[str, Any]
Groups = dict[str, dict[str, Row]]
"""Rows by name, by the kind of process that measures them: default, tuned or generation."""


class Compared(NamedTuple):
    """A row of the two builds. ``ratio`` and its interval are of new/old, below 1 where the new
    build is quicker; ``difference`` is that of its numbers."""

    old: float
    new: float
    ratio: float
    low: float
    high: float
    difference: float


def rows() -> tuple[Groups, dict[str, str]]:
    """What is compared, and what is not, by name, with the reason."""
    groups: Groups = {"default": {}, "tuned": {}, "generation": {}}
    excepted: dict[str, str] = {}
    for cell in cases.goals():
        for name in cell.contenders:
            if cell.work == "error" or not cases.is_ours(name):
                continue
            length = int(name[2:]) if name.startswith("L=") else cell.length
            label = f"{_conv_name(cell, length)}, {cell.allocator} allocator"
            groups[cell.allocator][label] = _conv_row(cell, length)
    if why_not_tuned():
        excepted |= dict.fromkeys(groups.pop("tuned"), why_not_tuned())
    for row in generation.cases.cases():
        for name in row.contenders:
            if row.kind == "positions" and int(name[2:]) > 1 << 16:
                excepted[f"{row}, {name}"] = "a position that is reached through what is private"
            elif name not in generation.cases.BASELINES:
                label, found = _generation_row(row, name)
                groups["generation"][label] = found
    # What rows have in common is made once if they follow each other.
    shared = sorted(groups["generation"].items(), key=lambda item: _in_common(item[1]))
    groups["generation"] = dict(shared)
    return groups, excepted


def _in_common(row: Row) -> str:
    fields = ("work", "preset", "bf16", "recurrent", "max_length", "prefill", "tokens")
    return str([row.get(field) for field in fields])


def _conv_row(cell: cases.Case, length: int) -> Row:
    row = {"batch": cell.batch, "width": cell.width, "length": length}
    training = {"training": cell.direction == "training"}
    if cell.work.startswith("operator"):
        return {"work": "operator", **training, **row, "bf16": cell.work == "operator_bf16"}
    return {"work": "convolution", **training, **row, "bf16": False}


def _conv_name(cell: cases.Case, length: int) -> str:
    work = "gated_conv" if cell.work == "two_lengths" else cell.work
    return f"{work} {cell.direction}, D={cell.width}, L={length}"


def _generation_row(row: generation.cases.Case, name: str) -> tuple[str, Row]:
    """A row may stand in several tables of `hyena bench generate`; by its name it is here once."""
    P, T = row.context, row.tokens
    recurrent = name == "distilled" or row.kind == "positions"
    common = {"batch": row.batch, "width": row.width, "recurrent": STATE if recurrent else None}
    kind = "recurrent" if recurrent else "exact"
    if row.kind in ("model", "weights"):
        bf16 = name.endswith("_bf16")
        size = row.preset or f"D={row.width}, {row.layers} layers"
        label = f"model {kind}, {size}, B={row.batch}, {T} tokens after {P}"
        sizes = {"preset": row.preset, "layers": row.layers, "bf16": bf16, "prefill": P}
        return label + ", bf16" * bf16, {"work": "model", **common, **sizes, "tokens": T}
    first, tokens = P, T
    if row.kind in ("grown", "growth") and not recurrent:
        first, tokens = 1, P if row.kind == "grown" else int(name[2:])
    if row.kind == "positions":
        first = int(name[2:])
    label = f"mixer {kind}, D={row.width}, B={row.batch}, {tokens} tokens after {first}"
    sizes = {"prefill": first, "tokens": tokens, "max_length": first + tokens}
    return label, {"work": "mixer", **common, **sizes, "bf16": False}


def measure(python: str, group: str, rows: dict[str, Row], options: Row) -> Row:
    """What a process of a build finds. Raises: ValueError if it ends without an answer."""
    done = subprocess.run(
        [python, str(Path(__file__).with_name("build_rows.py"))],
        input=json.dumps({**options, "rows": rows}),
        stdout=subprocess.PIPE,
        text=True,
        env=environment("tuned" if group == "tuned" else "default"),
    )
    if done.returncode:
        raise ValueError(f"{python}: the process of the group {group} ended: {done.returncode}")
    return dict(json.loads(done.stdout))


def turns(groups: Iterable[str], builds: Sequence[str], pairs: int) -> list[tuple[int, str, str]]:
    """(pair, group, build) of each process, in order: who begins changes each time."""
    return [
        (pair, group, build)
        for pair in range(pairs)
        for g, group in enumerate(groups)
        for build in (builds if (pair + g) % 2 == 0 else reversed(builds))
    ]


def seconds_left(took: Sequence[tuple[str, float]], groups: Iterable[str]) -> float:
    """Of the processes of these groups, by the group and seconds of those that have ended."""
    known = dict(took)
    mean = statistics.fmean(seconds for _, seconds in took)
    return sum(known.get(group, mean) for group in groups)


def compare(old: Sequence[Row], new: Sequence[Row]) -> Compared | str:
    """A row of all pairs, in order; a line that says why there is no comparison."""
    failed = [x["failed"] for x in (*old, *new) if "failed" in x]
    if failed:
        return str(failed[0])
    a, b = ([x["seconds"] for x in its] for its in (old, new))
    low, high = interval([n / o for o, n in zip(a, b, strict=True)])
    ratio = statistics.median(n / o for o, n in zip(a, b, strict=True))
    apart = difference(old[0]["numbers"], new[0]["numbers"])
    return Compared(statistics.median(a), statistics.median(b), ratio, low, high, apart)


def interval(ratios: Sequence[float]) -> tuple[float, float]:
    """The 95% interval of the geometric mean of ratios, by Student's t over their logarithms."""
    logs = [math.log(x) for x in ratios]
    half = quantile(len(logs) - 1) * statistics.stdev(logs) / len(logs) ** 0.5
    mean = statistics.fmean(logs)
    return math.exp(mean - half), math.exp(mean + half)


def quantile(freedom: int) -> float:
    """The 97.5% quantile of Student's t with 1 to 29 degrees of freedom."""
    known = "12.706 4.303 3.182 2.776 2.571 2.447 2.365 2.306 2.262 2.228 2.201 2.179 2.160 2.145"
    known += " 2.131 2.120 2.110 2.101 2.093 2.086 2.080 2.074 2.069 2.064 2.060 2.056 2.052 2.048"
    return float(f"{known} 2.045".split()[freedom - 1])


def difference(old: Sequence[float], new: Sequence[float]) -> float:
    """‖new − old‖ / ‖old‖; infinite where they are not as many."""
    if len(old) != len(new):
        return math.inf
    apart = math.dist(old, new)
    return apart / math.hypot(*old) if apart else 0.0


def report(
    found: dict[str, Compared | str], all_rows: dict[str, Row], excepted: dict[str, str]
) -> tuple[str, bool]:
    """The table, and whether all is well."""
    lines = [["row", "old, ms", "new, ms", "new/old", "95% interval", "numbers differ by", ""]]
    slow, other, failed = [], [], []
    for name, x in found.items():
        if isinstance(x, str):
            failed.append(f"- failed: {name}: {x}")
            continue
        verdict = ""
        if x.low > LIMIT:
            slow.append(name)
            verdict = "**slower**"
        if not x.difference <= (BF16_TOLERANCE if all_rows[name]["bf16"] else TOLERANCE):
            other.append(name)
            verdict += " **other numbers**"
        times = [f"{1e3 * t:.4g}" for t in (x.old, x.new)]
        ratios = [f"{x.ratio:.3f}", f"{x.low:.3f}–{x.high:.3f}"]
        lines.append([name, *times, *ratios, f"{x.difference:.0e}", verdict.strip()])
    compared = [x for x in found.values() if not isinstance(x, str)]
    mean = statistics.geometric_mean([x.ratio for x in compared] or [math.nan])
    summary = [
        f"- {len(compared)} rows, geometric mean of new/old {mean:.3f}",
        f"- slower, their interval above {LIMIT}: {len(slow)}",
        f"- other numbers: {len(other)}",
        *failed,
        *(f"- not compared, {why}: {names}" for why, names in _by_reason(excepted).items()),
    ]
    notes = (
        "new/old: the median over the pairs of processes; below 1 the new build is quicker. "
        "Interval: 95%, Student's t over the logarithms of the ratios. ms a call, of mixers and "
        "models a token: the median over the processes of each one's median."
    )
    text = "\n\n".join(["# Two builds", "\n".join(summary), notes, table(lines)]) + "\n"
    return text, not (slow or other or failed)


def _by_reason(excepted: dict[str, str]) -> dict[str, str]:
    return {
        why: "; ".join(name for name, its in excepted.items() if its == why)
        for why in excepted.values()
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--old", required=True, help="the Python of the old build")
    parser.add_argument("--new", default=sys.executable, help="of the new one; default: this one")
    parser.add_argument("--pairs", type=int, default=7, help=f"2 to {MOST_PAIRS}; default 7")
    parser.add_argument("--seconds", type=float, default=0.2, help="of a row in a process")
    parser.add_argument("--threads", type=int, help="default: PyTorch's number")
    parser.add_argument("--only", default="", help="rows with this in their name")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    asked = parser.parse_args(arguments)
    if not 2 <= asked.pairs <= MOST_PAIRS:
        parser.error(f"--pairs: expected 2 to {MOST_PAIRS}, got {asked.pairs}")
    groups, excepted = rows()
    groups = {
        group: some
        for group, its in groups.items()
        if (some := {name: row for name, row in its.items() if asked.only in name})
    }
    all_rows = {name: row for its in groups.values() for name, row in its.items()}
    if not all_rows:
        parser.error(f"--only: no row has {asked.only!r} in its name")
    builds = {"old": asked.old, "new": asked.new}
    options = {"seconds": asked.seconds, "threads": asked.threads}
    answers: dict[str, dict[str, list[Row]]] = {
        name: {build: [] for build in builds} for name in all_rows
    }
    setting: Row = {"pairs": asked.pairs, **options}

    began = time.monotonic()
    order = turns(groups, list(builds), asked.pairs)
    took: list[tuple[str, float]] = []
    for i, (pair, group, build) in enumerate(order, 1):
        start = time.monotonic()
        answer = measure(builds[build], group, groups[group], options)
        took.append((group, time.monotonic() - start))
        setting[build] = answer["build"]
        for name, its in answer["rows"].items():
            answers[name][build].append(its)
        left = seconds_left(took, [group for _, group, _ in order[i:]])
        print(
            f"{time.monotonic() - began:5.0f} s, about {left:.0f} left: pair {pair + 1} of "
            f"{asked.pairs}, {group}, {build}",
            flush=True,
        )
    if setting["old"]["folder"] == setting["new"]["folder"]:
        parser.error(f"--old and --new are the same build, {setting['old']['folder']}")
    for build in "old", "new":
        del setting[build]["folder"]  # which says nothing elsewhere
    found = {name: compare(its["old"], its["new"]) for name, its in answers.items()}
    text, well = report(found, all_rows, excepted)
    document = {"setting": setting, "excepted": excepted, "rows": {}}
    for name, x in found.items():
        result = {"failed": x} if isinstance(x, str) else x._asdict()
        times = {build: [y.get("seconds") for y in ys] for build, ys in answers[name].items()}
        document["rows"][name] = {**result, "seconds": times}
    write_text(asked.out / "builds.json", json.dumps(document, indent=1) + "\n")
    write_text(asked.out / "builds.md", text)
    print(text)
    return int(not well)


if __name__ == "__main__":
    sys.exit(main())
