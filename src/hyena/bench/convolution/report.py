"""Results as Markdown and as drawings: the goals, and all times, errors and peaks behind them."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hyena.bench.allocator import describe
from hyena.bench.convolution.cases import CONTENDERS, MODES, STRIPED
from hyena.bench.convolution.goals import goals
from hyena.bench.convolution.limits import least_traffic, nominal_flops
from hyena.bench.drawings import Point, draw_points
from hyena.bench.goals import Results, ratio
from hyena.bench.report import Table, bullets, figure, goal_rows, lines, ms, not_measured, time
from hyena.files.markdown import table

_DIRECTIONS = {"forward": "forward", "training": "forward + backward"}
_WORKS: dict[str, str] = {
    "gated_conv": "Gated convolution",
    "operator": "Whole operator",
    "operator_bf16": "Whole operator under bfloat16 autocast",
    **{name: f"{name} between its projections" for name in STRIPED},
    "two_lengths": "Ours at two lengths",
    "error": "Errors against float64",
}
_LIMITS = {
    "copy": ("copy", "GB/s"),
    "triad": ("triad", "GB/s"),
    "matmul": ("float32 matrix product", "GFLOP/s"),
    "matmul_bf16": ("bfloat16 matrix product", "GFLOP/s"),
    "multiply_add": ("the kernel's multiply-add mix", "GFLOP/s"),
}

# Of each drawing: where its values stand in a result, their unit, and what they are.
_DRAWN = {
    "time": ("times", "median", 1e-3, "milliseconds"),
    "memory": ("memory", "call", 2.0**20, "peak memory of a call beyond its inputs, MiB"),
}


def report(results: Results, setting: Mapping[str, Any], limits: Mapping[str, float]) -> str:
    """The whole report.

    Args: results by key; what was the same for all of them; the machine's limits, or nothing.
    """
    parts = ["# Long convolution", _setting(setting, limits)]
    if any(result["cell"]["suite"] == "goals" for result in results.values()):
        parts += ["## Goals", table(goal_rows(goals(_device(setting)), results, CONTENDERS))]
    near = limit_rows(results, limits)
    if len(near) > 1:
        parts += ["## How near ours comes to the machine", _NEAR, table(near)]
    for heading, rows in sections(results):
        parts += [heading, table(rows)]
    return "\n\n".join([*parts, *not_measured(results, CONTENDERS)]) + "\n"


_NEAR = (
    "Mode (b), spectrum cached. GFLOP/s by the usual count of two real transforms of size 2L, "
    "10·L·log2(2L) + 9·L a channel, which is not what the kernel executes; GB/s of what must be "
    "moved: z and the spectrum read, y written. The shares are of the limits above."
)


def limit_rows(results: Results, limits: Mapping[str, float]) -> Table:
    """The rate of our forward pass at each size, and its share of what the machine can do."""
    rows = [["D", "L", "ms", "GFLOP/s", "of the mix", "GB/s", "of the triad"]]
    kind = {"work": "gated_conv", "direction": "forward", "allocator": "tuned"}
    found = {
        (cell["width"], cell["length"]): result["times"]["ours"]["median"]
        for result in sorted(results.values(), key=lambda x: str(x["cell"]["suite"]), reverse=True)
        if kind.items() <= (cell := result["cell"]).items() and "ours" in result.get("times", {})
    }  # where both suites have a size, of the goals
    for size, seconds in sorted(found.items()) if limits else ():
        flops, traffic = nominal_flops(*size) / seconds, least_traffic(*size) / seconds
        mix = limits.get("multiply_add")
        rows.append(
            [
                *map(str, size),
                ms(seconds),
                figure(flops / 1e9),
                "" if mix is None else f"{flops / mix:.0%}",
                figure(traffic / 1e9),
                f"{traffic / limits['triad']:.0%}",
            ]
        )
    return rows


def time_rows(cases: Sequence[Mapping[str, Any]]) -> Table:
    """Medians with quartiles in ms of cases of one kind, and what ours gains on each baseline."""
    names = _names(cases, "times", "skipped")
    # Ours as the goals have it: with workspaces of its own, where it is there.
    best = next((name for name in names if name.startswith("ours")), "")
    found = []
    for result in cases:
        times = result.get("times", {})
        line = _sizes(result)
        for name in names:
            line[f"{CONTENDERS.get(name, name)} ({_mode(cases, name)})"] = _time(result, name)
        for name in names if best else ():
            if not name.startswith("ours"):
                known = {name, best} <= set(times)
                gain = f"{figure(ratio(times, name, best).value)}×" if known else ""
                line[f"{CONTENDERS[name]} / ours"] = gain
        found.append(line)
    return lines(found)


def sections(results: Results) -> Iterator[tuple[str, Table]]:
    """A heading and a table for each kind of case, the goals' cases before the sweep's."""
    kinds: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for result in results.values():
        cell = result["cell"]
        kind = (cell["suite"], cell["work"], cell["direction"], cell["allocator"])
        kinds.setdefault(kind, []).append(result)
    for (suite, work, direction, allocator), found in sorted(kinds.items()):
        found.sort(key=lambda result: (result["cell"]["width"], result["cell"]["length"]))
        name = f"{_WORKS[work]}, {_DIRECTIONS[direction]}"
        if work in ("error", "two_lengths"):
            yield f"## {name}, {allocator} allocator ({suite})", contender_rows(found)
            continue
        if any("times" in result for result in found):
            yield f"## {name}, {allocator} allocator: ms ({suite})", time_rows(found)
        if any("memory" in result for result in found):
            heading = f"## {name}, {allocator} allocator: peak memory in MiB ({suite})"
            yield f"{heading}\n\nOf one call, beyond its inputs / of the process.", _memory(found)


def _memory(cases: Sequence[Mapping[str, Any]]) -> Table:
    names = _names(cases, "memory")
    return lines(
        [
            _sizes(result) | {CONTENDERS.get(x, x): _peak(result["memory"].get(x)) for x in names}
            for result in cases
            if result.get("memory")
        ]
    )


def contender_rows(cases: Sequence[Mapping[str, Any]]) -> Table:
    """A line for each contender: its time, its peak memory, and its errors by tensor."""
    return lines(
        [
            {
                **_sizes(result),
                "contender": CONTENDERS.get(name, name),
                "ms": _time(result, name),
                "peak memory, MiB": _peak(result.get("memory", {}).get(name)),
                **{x: f"{e:.1e}" for x, e in result.get("errors", {}).get(name, {}).items()},
            }
            for result in cases
            for name in result["cell"]["contenders"]
        ]
    )


def _setting(setting: Mapping[str, Any], limits: Mapping[str, float]) -> str:
    said = [f"{name}: {value}" for name, value in setting.items()]
    if _device(setting) == "cpu":
        said += [f"mode ({mode}): {meaning}" for mode, meaning in MODES.items()]
        said += [f"{name} allocator: {describe(name)}" for name in ("default", "tuned")]
    else:
        said += [f"mode (a): {MODES['a']}", "default allocator: PyTorch's of the device"]
    known = [(*_LIMITS[name], value) for name, value in limits.items() if name in _LIMITS]
    said += [f"{name}: {value / 1e9:.1f} {unit}" for name, unit, value in known]
    said.append(
        "times are medians with quartiles; ratios are of medians, to the first column of ours"
    )
    return bullets(said)


def _device(setting: Mapping[str, Any]) -> str:
    """Where it was measured, as PyTorch calls it; older records are all of the CPU."""
    return str(setting.get("device", "cpu")).partition(",")[0]


def _names(cases: Sequence[Mapping[str, Any]], *fields: str) -> list[str]:
    """The contenders that fields of any of the cases know, in the order of their first cell."""
    found: dict[str, None] = {}
    for result in cases:
        for name in result["cell"]["contenders"]:
            if any(name in result.get(field, {}) for field in fields):
                found[name] = None
    return list(found)


def _mode(cases: Sequence[Mapping[str, Any]], name: str) -> str:
    return next(str(result["modes"][name]) for result in cases if name in result["modes"])


def _sizes(result: Mapping[str, Any]) -> dict[str, str]:
    cell = result["cell"]
    lengths = [cell["length"]] if cell["beside"] is None else [cell["length"], cell["beside"]]
    return {"D": str(cell["width"]), "L": ", ".join(map(str, lengths))}


def _time(result: Mapping[str, Any], name: str) -> str:
    if name in result.get("times", {}):
        return time(result["times"][name])
    return "left out" if name in result["skipped"] else ""


def _peak(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    if "call" not in found:
        return str(found.get("why_not", found.get("failed")))
    return f"{found['call'] / 2**20:.0f} / {found['process'] / 2**20:.0f}"


def draw(results: Results, out: Path) -> list[Path]:
    """Draws ``time_<work>_<direction>.png`` and ``memory_…``, with a panel for each width and
    allocator; nothing where a panel would have one length only.

    Returns: the files written. Raises: as `hyena.plots.draw_lengths`.
    """
    files = []
    for work in ("gated_conv", "operator", "operator_bf16"):
        for direction in ("forward", "training"):
            for what, (field, of_it, unit, ylabel) in _DRAWN.items():
                points = _points(results, work, direction, field, of_it, unit)
                files += draw_points(points, out / f"{what}_{work}_{direction}.png", ylabel)
    return files


def _points(
    results: Results, work: str, direction: str, field: str, of_it: str, unit: float
) -> Iterator[Point]:
    """Where both suites have a size, the sweep's comes last, so that a curve is of one run."""
    order = ("width", "allocator", "suite")
    for result in sorted(results.values(), key=lambda x: [x["cell"][name] for name in order]):
        cell = result["cell"]
        if (cell["work"], cell["direction"]) == (work, direction):
            panel = f"D = {cell['width']}, {cell['allocator']} allocator"
            for name, found in result.get(field, {}).items():
                if found.get(of_it):
                    yield panel, CONTENDERS[name], cell["length"], found[of_it] / unit
