"""Results of generation as Markdown and as a drawing: the goals, and what is behind them."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hyena.bench.drawings import Point, draw_points
from hyena.bench.generation.cases import CONTENDERS, KINDS
from hyena.bench.generation.goals import goals
from hyena.bench.goals import Results
from hyena.bench.report import Table, bullets, figure, goal_rows, lines, ms, not_measured, time
from hyena.files.markdown import table

Result = Mapping[str, Any]

_TITLES = {"planned": "after a prefill", "grown": "token by token", "model": "whole model"}
"""Of the panels that are drawn."""

NOTES = (
    "ms a token: the median over the repetitions of each one's mean, with quartiles; p99, the "
    "99th percentile, and worst are of all tokens, so that they show what completing a block costs",
    "error: relative L2, of the tokens timed, against the full forward pass in float64; of whole "
    "models, of the logits of a short text",
    "state: MiB of the memory behind the state's tensors, room for tokens to come included",
)


def report(results: Results, setting: Mapping[str, Any]) -> str:
    """The whole report. Args: results by key; what was the same for all of them."""
    said = [*(f"{name}: {value}" for name, value in setting.items()), *NOTES]
    parts = ["# Generation", bullets(said)]
    wanted = goals()
    if any(goal.measure(results) is not None for goal in wanted):
        parts += ["## Goals", table(goal_rows(wanted, results, CONTENDERS))]
    for kind, meaning in KINDS.items():
        found = [x for x in results.values() if x["row"]["kind"] == kind and "failed" not in x]
        found.sort(key=lambda x: (str(x["row"]["preset"]), x["row"]["batch"], x["row"]["context"]))
        if found:
            parts += [f"## {kind.capitalize()}: {meaning}", table(time_rows(found))]
    return "\n\n".join([*parts, *not_measured(results)]) + "\n"


def time_rows(found: Sequence[Result]) -> Table:
    """A line for each contender."""
    return lines(
        [
            _line(result, name)
            for result in found
            for name in result["row"]["contenders"]
            if name in result["times"]
        ]
    )


def _line(result: Result, name: str) -> dict[str, str]:
    """What there is of a contender, by column."""
    row, its, exact = result["row"], result["times"][name], result["times"].get("hyena")
    each = row["kind"] in ("growth", "positions", "modes")  # its name says where each one is
    facts, state = result.get("facts", {}).get(name), result["held"].get(name)
    error, off = result["errors"].get(name), result.get("state_errors", {}).get(name)
    return {
        "model": row["preset"] or f"D={row['width']}, layers={row['layers']}",
        "B": str(row["batch"]),
        "context": "" if each else str(row["context"]),
        "contender": CONTENDERS.get(name, name),
        "parameters": str(facts["parameters"]) if facts else "",
        "tokens": str(its["tokens"]),
        "tokens/s": f"{row['batch'] / its['median']:.4g}",
        "ms a token": time(its),
        "p99": ms(its["p99"]),
        "worst": ms(its["worst"]),
        "× exact": figure(its["median"] / exact["median"]) if exact and its is not exact else "",
        "state, MiB": "" if state is None else figure(state / 2**20),
        "error": "" if error is None else f"{error:.1e}",
        "error of the state": "" if off is None else f"{off:.1e}",
    }


def draw(results: Results, out: Path) -> list[Path]:
    """Draws ``time_per_token.png``, time a token against the context, with a panel for each
    setting and batch that has more than one context; nothing if there is none.

    Returns: the files written. Raises: as `hyena.plots.draw_lengths`.
    """
    file = out / "time_per_token.png"
    return draw_points(sorted(_points(results)), file, "milliseconds a token")


def _points(results: Results) -> Iterator[Point]:
    for result in results.values():
        row = result["row"]
        if row["kind"] in _TITLES and "times" in result:
            what = f"{row['preset']}, " if row["preset"] else ""
            panel = f"{_TITLES[row['kind']]}, {what}batch {row['batch']}"
            for name in CONTENDERS.keys() & result["times"].keys():
                median = result["times"][name]["median"]
                yield panel, CONTENDERS[name], row["context"], 1e3 * median
