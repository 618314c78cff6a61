"""Results of generation as Markdown: the goals, and what is behind them."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from hyena.bench.generation.cases import CONTENDERS, KINDS
from hyena.bench.generation.goals import goals, share_of_limit
from hyena.bench.goals import Results
from hyena.bench.report import Table, bullets, goal_rows, ms, not_measured, time
from hyena.files.markdown import table

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
    parts = ["# Generation", bullets(lines)]
    wanted = goals()
    if any(goal.measure(results) is not None for goal in wanted):
        parts += ["## Goals", table(goal_rows(wanted, results, CONTENDERS))]
    for heading, rows in _sections(results):
        parts += [heading, table(rows)]
    left_out = [
        f"{name}, {key}: {why}"
        for key, result in results.items()
        for name, why in result["skipped"].items()
    ]
    return "\n\n".join([*parts, *not_measured(left_out, results)]) + "\n"


def _sections(results: Results) -> Iterator[tuple[str, Table]]:
    for kind, meaning in KINDS.items():
        found = [x for x in results.values() if x["row"]["kind"] == kind and "failed" not in x]
        found.sort(key=lambda x: (str(x["row"]["preset"]), x["row"]["batch"], x["row"]["context"]))
        if found:
            heading = f"## {kind.capitalize()}: {meaning}"
            yield heading, _TABLES[kind](found)


def mixer_rows(found: Sequence[Result]) -> Table:
    heading = ["B", "context", "mixer", "tokens", "ms a token", "p99", "worst"]
    rows = [[*heading, "× exact", "state, MiB", "error"]]
    for result in found:
        row, times = result["row"], result["times"]
        for name in _names(row, times):
            its = times[name]
            line = [str(row["batch"]), str(row["context"]), CONTENDERS[name], str(its["tokens"])]
            line += [time(its), *(ms(its[x]) for x in ("p99", "worst"))]
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
            line = [name.removeprefix("L="), f"{seconds:.3g}", time(its), ms(its["p99"])]
            rows.append([*line, ms(its["worst"]), growth, _error(result, name)])
    return rows


def position_rows(found: Sequence[Result]) -> Table:
    rows = [["position", "ms a token", "p99", "worst", "bytes of the state", "error"]]
    for result in found:
        for name in _names(result["row"], result["times"]):
            its = result["times"][name]
            line = [name.removeprefix("t="), time(its), ms(its["p99"]), ms(its["worst"])]
            rows.append([*line, str(result["held"][name]), _error(result, name)])
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
            line = [model, str(row["batch"]), str(row["context"]), CONTENDERS[name]]
            line.append(str(facts[name]["parameters"]) if name in facts else "")
            line += [str(its["tokens"]), f"{row['batch'] / its['median']:.4g}", time(its)]
            line += [ms(its["p99"]), ms(its["worst"]), _ratio(times, name)]
            share = share_of_limit(result, name)
            line.append("" if share is None else f"{share.value:.0%}")
            rows.append([*line, _state(result, name), _error(result, name)])
    return rows


_TABLES = {
    "planned": mixer_rows,
    "grown": mixer_rows,
    "growth": growth_rows,
    "positions": position_rows,
    "model": model_rows,
    "weights": model_rows,
}


def _names(row: Mapping[str, Any], times: Mapping[str, Any]) -> list[str]:
    return [name for name in row["contenders"] if name in times]


def _ratio(times: Mapping[str, Any], name: str) -> str:
    if "hyena" not in times or name == "hyena":
        return ""
    return f"{times[name]['median'] / times['hyena']['median']:.3g}"


def _state(result: Result, name: str) -> str:
    bytes = result["held"].get(name)
    return "" if bytes is None else f"{bytes / 2**20:.3g}"


def _error(result: Result, name: str) -> str:
    error = result["errors"].get(name)
    return "" if error is None else f"{error:.1e}"
