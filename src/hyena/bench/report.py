"""Results as Markdown: the words, figures and tables that all reports have."""

from collections.abc import Mapping, Sequence
from typing import Any

from hyena.bench.goals import Goal, Results

Table = list[list[str]]  # the first row is the heading


def goal_rows(wanted: Sequence[Goal], results: Results, labels: Mapping[str, str]) -> Table:
    """Goal, measured and whether it is met, a row each; contenders in notes by their labels."""
    rows = [["goal", "work", "where", "target", "measured", "range", ""]]
    for goal in wanted:
        sign, unit = ("≥", goal.unit) if goal.at_least else ("≤", "")
        found = goal.measure(results)
        row = [str(goal.number), goal.work, goal.where, f"{sign} {figure(goal.target)}{unit}"]
        if found is None:
            rows.append([*row, "not measured", "", ""])
            continue
        verdict = "met" if goal.met(found) else "**missed**"
        note = f" ({labels.get(found.note, found.note)})" if found.note else ""
        spread = ""
        if found.low is not None and found.high is not None:
            spread = f"{figure(found.low)}–{figure(found.high)}"
        rows.append([*row, f"{figure(found.value)}{unit}{note}", spread, verdict])
    return rows


def lines(found: Sequence[Mapping[str, str]]) -> Table:
    """Lines by column; a column that is empty in all of them is left out."""
    every = dict.fromkeys(column for line in found for column in line)
    columns = [column for column in every if any(line.get(column) for line in found)]
    return [columns, *([line.get(column, "") for column in columns] for line in found)]


def bullets(items: Sequence[str]) -> str:
    """A list."""
    return "\n".join(f"- {item}" for item in items)


def not_measured(results: Results, labels: Mapping[str, str] | None = None) -> list[str]:
    """The section on what there are no figures of: contenders that were left out, by their labels,
    and cases that failed; nothing if there are figures of all."""
    why = [
        f"{(labels or {}).get(name, name)}, {key}: {reason}"
        for key, result in results.items()
        for name, reason in result["skipped"].items()
    ]
    why += [f"{key}: {x['failed']}" for key, x in results.items() if "failed" in x]
    return ["## Not measured", bullets(why)] if why else []


def figure(value: float) -> str:
    """Three digits."""
    if value != 0 and abs(value) < 1e-3:
        return f"{value:.1e}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def ms(seconds: float) -> str:
    """Milliseconds."""
    return figure(1e3 * seconds)


def time(timing: Mapping[str, Any]) -> str:
    """Median and quartiles in milliseconds."""
    if timing["samples"] == 1:
        return f"{ms(timing['median'])} (once)"
    return f"{ms(timing['median'])} ({ms(timing['lower'])}–{ms(timing['upper'])})"
