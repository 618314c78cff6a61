"""Results of generation as Markdown: the goals, and what is behind them."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from hyena.bench.generation_goals import goals, share_of_limit
from hyena.bench.generation_rows import BARE, CONTENDERS, KINDS
from hyena.bench.goals import Results
from hyena.bench.report import Table, goal_rows, table

Result = Mapping[str, Any]

_NOTES = (
    "ms a token: the median over the repetitions of each one's mean, with quartiles; p99, the "
    "99th percentile, and worst are of all tokens, so that they show what completing a block costs",
    "error: relative L2, of the tokens timed, against the full forward pass in float64; of whole "
    "models, of the logits of a short text",
    "state: MiB of the memory behind the state's tensors, room for tokens to come included",
)


def report(results: Results, setting: Mapping[str, Any]) -> str:
    """The whole report. Args: results by key; what was the same for all of them."""
    lines = [*(f"{name}: {value}" for name, value in setting.items()), *_NOTES]
    parts = ["# Generation", "\n".join(f"- {line}" for line in lines)]
    wanted = goals()
    if any(goal.measure(results) is not None for goal in wanted):
        parts += ["## Goals", table(goal_rows(wanted, results))]
    for heading, rows in _sections(results):
        parts += [heading, table(rows)]
    left_out = [
        f"- {name}, {key}: {why}"
        for key, result in results.items()
        for name, why in result["skipped"].items()
    ]
    failed = [f"- {key}: {result['failed']}" for key, result in results.items() if _no(result)]
    if left_out or failed:
        parts += ["## Not measured", "\n".join([*left_out, *failed])]
    return "\n\n".join(parts) + "\n"


def _sections(results: Results) -> Iterator[tuple[str, Table]]:
    for kind, meaning in KINDS.items():
        found = [x for x in results.values() if x["row"]["kind"] == kind and not _no(x)]
        found.sort(key=lambda x: (str(x["row"]["preset"]), x["row"]["batch"], x["row"]["context"]))
        if found:
            heading = f"## {kind.capitalize()}: {meaning}"
            yield heading, _TABLES[kind](found)


def mixer_rows(found: Sequence[Result]) -> Table:
    """A line for each mixer, with its time without projections beside it."""
    rows = [
        [
            *["B", "context", "mixer", "tokens", "ms a token", "p99", "worst"],
            *["without projections: ms", "p99", "× exact", "state, MiB", "error"],
        ]
    ]
    for result in found:
        row, times = result["row"], result["times"]
        for name in _names(row, times):
            if name.endswith(BARE) and name.removesuffix(BARE) in times:
                continue
            its, bare = times[name], times.get(name + BARE)
            line = [str(row["batch"]), str(row["context"]), _label(name), str(its["tokens"])]
            line += [_time(its), *(_ms(its[x]) for x in ("p99", "worst"))]
            line += ["", ""] if bare is None else [_time(bare), _ms(bare["p99"])]
            rows.append([*line, _ratio(times, name), _state(result, name), _error(result, name)])
    return rows


def growth_rows(found: Sequence[Result]) -> Table:
    """A line for each length, with the growth since the one before."""
    rows = [["L", "seconds", "ms a token", "p99", "worst", "time / time before", "error"]]
    for result in found:
        times = result["times"]
        names = _names(result["row"], times)
        for before, name in pairwise([None, *names]):
            assert name is not None
            its = times[name]
            seconds = its["median"] * its["tokens"]
            growth = ""
            if before is not None:
                growth = f"{seconds / (times[before]['median'] * times[before]['tokens']):.3g}"
            line = [name.removeprefix("L="), f"{seconds:.3g}", _time(its), _ms(its["p99"])]
            rows.append([*line, _ms(its["worst"]), growth, _error(result, name)])
    return rows


def position_rows(found: Sequence[Result]) -> Table:
    rows = [["position", "ms a token", "p99", "worst", "bytes of the state", "error"]]
    for result in found:
        for name in _names(result["row"], result["times"]):
            its = result["times"][name]
            line = [name.removeprefix("t="), _time(its), _ms(its["p99"]), _ms(its["worst"])]
            rows.append([*line, str(result["held"][name]), _error(result, name)])
    return rows


def memory_rows(found: Sequence[Result]) -> Table:
    """In MiB: the state; what stays resident, which has besides what filters keep for all
    sequences; the peak of the prefill beyond what was there before, and of the process."""
    fields = {"state": "state", "stays": "stays", "call": "peak of the prefill"}
    fields["process"] = "peak of the process"
    rows = [["B", "context", "mixer", *(f"{label}, MiB" for label in fields.values())]]
    for result in found:
        row = result["row"]
        for name, its in result["memory"].items():
            line = [str(row["batch"]), str(row["context"]), _label(name)]
            rows.append([*line, *(_mebibytes(its.get(field)) for field in fields)])
    return rows


def model_rows(found: Sequence[Result]) -> Table:
    rows = [
        [
            *[
                "model",
                "B",
                "context",
                "contender",
                "parameters",
                "tokens",
                "tokens/s",
                "ms a token",
            ],
            *["p99", "worst", "× exact", "share of the limit", "state, MiB", "error"],
        ]
    ]
    for result in found:
        row, times, facts = result["row"], result["times"], result["facts"]
        model = row["preset"] or f"D={row['width']}, {row['layers']} layers"
        for name in _names(row, times):
            its = times[name]
            line = [model, str(row["batch"]), str(row["context"]), _label(name)]
            line.append(str(facts[name]["parameters"]) if name in facts else "")
            line += [str(its["tokens"]), f"{row['batch'] / its['median']:.4g}", _time(its)]
            line += [_ms(its["p99"]), _ms(its["worst"]), _ratio(times, name)]
            share = share_of_limit(result, name)
            line.append("" if share is None else f"{share.value:.0%}")
            rows.append([*line, _state(result, name), _error(result, name)])
    return rows


_TABLES = {
    "planned": mixer_rows,
    "grown": mixer_rows,
    "growth": growth_rows,
    "positions": position_rows,
    "memory": memory_rows,
    "model": model_rows,
    "weights": model_rows,
}


def _names(row: Mapping[str, Any], times: Mapping[str, Any]) -> list[str]:
    return [name for name in row["contenders"] if name in times]


def _label(name: str) -> str:
    base = name.removesuffix(BARE)
    return CONTENDERS[base] + (", without projections" if base != name else "")


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g}"


def _time(its: Mapping[str, Any]) -> str:
    if its["samples"] == 1:
        return f"{_ms(its['median'])} (once)"
    return f"{_ms(its['median'])} ({_ms(its['lower'])}–{_ms(its['upper'])})"


def _ratio(times: Mapping[str, Any], name: str) -> str:
    if "hyena" not in times or name == "hyena":
        return ""
    return f"{times[name]['median'] / times['hyena']['median']:.3g}"


def _state(result: Result, name: str) -> str:
    return _mebibytes(result["held"].get(name))


def _mebibytes(bytes: int | None) -> str:
    return "" if bytes is None else f"{bytes / 2**20:.3g}"


def _error(result: Result, name: str) -> str:
    error = result["errors"].get(name)
    return "" if error is None else f"{error:.1e}"


def _no(result: Result) -> bool:
    return "failed" in result
