"""Results of genomics as Markdown: the goals, and every figure behind them."""

from collections.abc import Mapping
from typing import Any

from hyena.bench.allocator import describe
from hyena.bench.convolution.cases import CONTENDERS, MODES
from hyena.bench.convolution.report import sections
from hyena.bench.generation.report import NOTES as OF_TOKENS
from hyena.bench.generation.report import time_rows
from hyena.bench.genomes.goals import goals
from hyena.bench.goals import Results
from hyena.bench.model.report import NOTES as OF_PROCESSES
from hyena.bench.model.report import builds, figures
from hyena.bench.report import bullets, goal_rows, not_measured
from hyena.files.markdown import table

LABELS = {**CONTENDERS, "public_bf16": "public recipe, bf16 autocast"}

_NOTES = (
    *(f"mode ({mode}): {MODES[mode]}" for mode in ("a", "b")),
    f"tuned allocator: {describe('tuned')}",
    *OF_TOKENS,
    *OF_PROCESSES[:-1],
    "error: of scores, relative L2, of the log-probabilities of some 4,000 bases against float64; "
    "nats a base: the mean of all, and how far that is off",
)


def report(results: Results, setting: Mapping[str, Any]) -> str:
    """The whole report. Args: results by key; what was the same for all of them."""
    said = [f"{name}: {value}" for name, value in setting.items()]
    parts = ["# Genomics", bullets([*said, *builds(results), *_NOTES])]
    wanted = goals()
    if any(goal.measure(results) is not None for goal in wanted):
        parts += ["## Goals", table(goal_rows(wanted, results, LABELS))]
    operators = {key: x for key, x in results.items() if "cell" in x}
    for heading, rows in sections(operators):
        parts += [heading, table(rows)]
    others = {key: x for key, x in results.items() if "row" in x}
    tokens = [x for x in others.values() if "kind" in x["row"] and "times" in x]
    if tokens:
        parts += ["## hyena-li, tokens at positions far apart", table(time_rows(tokens))]
    processes = {key: x for key, x in others.items() if "kind" not in x["row"]}
    if any("times" in x for x in processes.values()):
        parts += ["## In processes of their own", table(figures(processes))]
    return "\n\n".join([*parts, *not_measured(results, LABELS)]) + "\n"
