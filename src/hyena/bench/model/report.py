"""Results of whole models as Markdown: the goals, and every figure behind them."""

from collections.abc import Mapping
from typing import Any

from hyena.bench.goals import Results
from hyena.bench.model.cases import TODAY, Suite
from hyena.bench.model.goals import GIB, goals
from hyena.bench.model.work import config_of
from hyena.bench.report import Table, bullets, figure, goal_rows, lines, not_measured
from hyena.files.markdown import table
from hyena.model import LanguageModel
from hyena.model.memory import forward_bytes, reckons, step_bytes
from hyena.model.passes import step_flops

_TITLES: dict[Suite, str] = {"memory": "Memory of long inputs", "train": "A step of training"}

NOTES = (
    "s: the median over the calls that are timed, with quartiles; a row that names no warm call is "
    "the first call of its process",
    "peak: of the whole process, with what Python and PyTorch take; added: beyond what it had "
    "before the calls",
    "today: an older build, at the same work",
)


def report(suite: Suite, results: Results, setting: Mapping[str, Any]) -> str:
    """The whole report. Args: the suite; results by key; what was the same for all of them."""
    said = [f"{name}: {value}" for name, value in setting.items()]
    said += [*builds(results), *NOTES]
    wanted = goals(suite)
    parts = [f"# {_TITLES[suite]}", bullets(said)]
    if any(goal.measure(results) is not None for goal in wanted):
        parts += ["## Goals", table(goal_rows(wanted, results, {}))]
    parts += ["## Figures", table(figures(results))]
    return "\n\n".join([*parts, *not_measured(results)]) + "\n"


def builds(results: Results) -> list[str]:
    """A line for each build that did some of the work; more than two if a folder was gone on with
    in another. Results of before this was recorded have none."""
    found = {
        f"{which} build: " + ", ".join(f"{name} {value}" for name, value in build.items())
        for result in results.values()
        for which, build in result.get("builds", {}).items()
    }
    return sorted(found, reverse=True)  # this one first


def figures(results: Results) -> Table:
    """A line for each contender."""
    return lines(
        [
            _line(result, name)
            for result in results.values()
            for name in result["row"]["contenders"]
            if name in result.get("times", {})
        ]
    )


def _line(result: Mapping[str, Any], name: str) -> dict[str, str]:
    row, its = result["row"], result["times"][name]
    work = row["works"][name.removesuffix(TODAY)]
    added, positions = result["added"][name], work["batch"] * work["length"]
    before = None if added is None else result["peak"][name] - added
    reckoned, operations = ("", "") if name.endswith(TODAY) else _reckoned(work, its, before)
    spread = f" ({figure(its['lower'])}–{figure(its['upper'])})" if its["samples"] > 1 else ""
    return {
        "case": row["name"],
        "contender": name.replace(TODAY, ", today"),
        "positions": f"{positions:,}",
        "warm calls": str(work["warm"] or ""),
        "s": figure(its["median"]) + spread,
        "positions/s": figure(positions / its["median"]),
        "peak, GiB": figure(result["peak"][name] / GIB),
        "added, GiB": "" if added is None else figure(added / GIB),
        "peak reckoned, GiB": reckoned,
        "10⁹ operations/s": operations,
        **_compared(result, name),
    }


def _compared(result: Mapping[str, Any], name: str) -> dict[str, str]:
    """How far its numbers are from the truth, where there is one: log-probabilities, of which the
    first is their mean."""
    if name not in result.get("errors", {}):
        return {}
    own, right = (result["first"][which] for which in (name, "truth"))
    found = {"error": f"{result['errors'][name]:.1e}", "nats a base": f"{own:.6f}"}
    return {**found, "off by": f"{own - right:.1e}"}


def _reckoned(
    work: Mapping[str, Any], its: Mapping[str, Any], before: float | None
) -> tuple[str, str]:
    """The peak by the formula of `docs/long_context.md`, and how many of the operations that
    `hyena info` counts were done a second; of a forward pass or a step of training."""
    if work["work"] not in ("forward", "train"):
        return "", ""
    model = LanguageModel(config_of(dict(work)), device="meta")
    length, batch, trains = work["length"], work["batch"], work["work"] == "train"
    model.activation_checkpointing = work["checkpointing"]
    counted = step_flops(model, length, batch) if trains else model.flops(length, batch).executed
    peak = ""
    recomputed = work["checkpointing"] or not trains
    if before is not None and recomputed and work["layout"] == "plain" and reckons(model):
        weights = sum(p.nbytes for p in model.parameters())
        taken = (step_bytes if trains else forward_bytes)(model, length, batch)
        peak = figure((before - weights + taken) / GIB)
    return peak, figure(counted.total / its["median"] / 1e9)
