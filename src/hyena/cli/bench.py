"""`hyena bench`: the convolution, the operator and generation against their rivals."""

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from hyena.bench import convolution as conv
from hyena.bench import folder, generation
from hyena.bench.convolution.cases import Case, Mode
from hyena.bench.goals import Goal, Results
from hyena.bench.reference import head_size
from hyena.bench.report import goal_rows
from hyena.cli.bar import bar
from hyena.cli.values import check_at_least
from hyena.files.atomic import write_text
from hyena.files.markdown import table
from hyena.machine import convolution, hardware, setting
from hyena.ops.backend import resolve_backend

POSITIONAL = "suite"
RESULTS = Path("benchmarks/results")
_SMALL = {"seconds": 0.1, "size": 1 << 20, "matrix": 64}  # limits of nothing, for the quick suite


@dataclass
class Config:
    """What to measure, and how."""

    suite: Literal["goals", "sweep", "all", "quick", "generate"] = "goals"
    """The goals and what they need (about 10 minutes on two cores); a sweep of all rivals over
    lengths from 256 to 1M, which takes longer; both; or a little of everything in seconds. And of
    generation, token by token: its goals (about 15 minutes)."""
    widths: list[int] | None = None
    """Widths D of the sweep, multiples of 64; none takes 64 and 256. Of the goals, those of these
    widths only."""
    lengths: list[int] | None = None
    """Lengths L of the sweep; none takes powers of two from 256 to 1M, 1000, 10007 and 100003. Of
    the goals, those of these lengths only; of generation, contexts."""
    modes: list[Literal["a", "b", "c"]] = field(default_factory=lambda: ["a", "b", "c"])
    """Fresh tensors under the default allocator (a) and under a tuned one (b); ours with reused
    outputs and workspaces (c)."""
    threads: int | None = None
    """Threads; none takes PyTorch's number."""
    seconds: float | None = None
    """Budget of a row's samples; none takes 4 for the goals and 2 for the sweep. A call that takes
    much longer is timed once. Of generation, of a contender that need not do all tokens: 6."""
    repeats: int | None = None
    """Samples of a contender in a row at most; none takes 100. Of generation, how often the tokens
    of a row are generated; none takes the row's own number, from 2 to 9."""
    quick: bool = False
    """Of generation: a little of everything in seconds, to see that it runs."""
    large: bool = False
    """Of generation: the model of 125M parameters at contexts up to 65,536 too, which takes
    longer."""
    out: Path | None = None
    """Folder of the results; none takes benchmarks/results/convolution_HARDWARE_DATE, or
    generation_HARDWARE_DATE. Rows that it has already are kept, so that an interrupted run goes
    on."""
    fresh: bool = False
    """Measure again what the folder has already."""

    def __post_init__(self) -> None:
        check_at_least(1, threads=self.threads, repeats=self.repeats)
        if self.seconds is not None and self.seconds <= 0:
            raise ValueError(f"seconds: expected more than 0, got {self.seconds}")
        for name in ("widths", "lengths"):
            values = getattr(self, name)
            if values is not None and (not values or min(values) < 1):
                raise ValueError(f"{name}: expected a list of numbers above 0, got {values}")
        for width in self.widths or []:
            head_size(width)
        generation = self.suite == "generate"
        for name, default in (("widths", None), ("modes", ["a", "b", "c"])):
            if generation and getattr(self, name) != default:
                raise ValueError(f"the suite generate has no {name}; leave --{name} out")
        for name in ("quick", "large"):
            if getattr(self, name) and not generation:
                raise ValueError(f"{name} is of the suite generate, not of {self.suite}")


def run(config: Config) -> int:
    """Measures, writes the report and prints what became of the goals.

    Returns: 0, or 1 if a case could not be measured.
    """
    return _generation(config) if config.suite == "generate" else _convolution(config)


def _convolution(config: Config) -> int:
    """In processes of its own."""
    cases = chosen(config)
    threads = config.threads or torch.get_num_threads()
    where = {**_where(), "threads": threads}
    for name in ("seconds", "repeats"):  # so that cases timed otherwise are not taken for these
        where[name] = getattr(config, name) or "those of the suite"
    del where["allocator"]
    out = _folder(config, "convolution", where)
    small = _SMALL if config.suite == "quick" else None
    with bar("rows") as report:
        results = conv.run.run(
            cases,
            out,
            where,
            threads=threads,
            seconds=config.seconds,
            repeats=config.repeats or 100,
            limits=small,
            progress=lambda n: report(n, len(cases)),
        )
    limits, goals = folder.read_limits(out), conv.goals.goals()
    document = {"setting": where, "limits": limits, "goals": [g.record(results) for g in goals]}
    _write(out, {**document, "cells": results}, conv.report.report(results, where, limits))
    conv.drawings.draw(results, out)
    shown = goals if any(case.suite == "goals" for case in cases) else []
    return _told(out, shown, conv.cases.CONTENDERS, results, cases)


def _generation(config: Config) -> int:
    """In this process."""
    cases = generation.cases.chosen(config.lengths, small=config.quick, large=config.large)
    seconds = config.seconds or generation.run.SECONDS
    before = torch.get_num_threads()
    torch.set_num_threads(config.threads or before)
    try:
        where = {**_where(), **generation.run.setting(seconds, config.repeats)}
        out = _folder(config, "generation", where)
        with bar("rows") as report:
            results = generation.run.run(
                cases,
                out,
                where,
                seconds=seconds,
                repeats=config.repeats,
                progress=lambda n: report(n, len(cases)),
            )
    finally:
        torch.set_num_threads(before)
    goals = generation.goals.goals()
    document = {"setting": where, "goals": [goal.record(results) for goal in goals]}
    _write(out, {**document, "rows": results}, generation.report.report(results, where))
    generation.drawings.draw(results, out)
    shown = [] if config.quick else goals
    return _told(out, shown, generation.cases.CONTENDERS, results, cases)


def _where() -> dict[str, Any]:
    resolve_backend("auto")  # a HYENA_ISA that cannot be is an error at once, not in every case
    where = {**setting(), **convolution()}
    del where["command"]
    return where


def _folder(config: Config, what: str, where: Mapping[str, Any]) -> Path:
    """The folder of the results, empty if they are to be measured again."""
    name = f"{what}_{hardware()}_{datetime.date.today():%Y-%m-%d}"
    out = RESULTS / name if config.out is None else config.out
    if config.fresh:
        folder.clear(out)
    kernel = f"{where['backend']} backend, kernel {where['kernel']}"
    print(f"ours: {kernel}; threads: {where['threads']}")
    return out


def _write(out: Path, document: Mapping[str, Any], text: str) -> None:
    folder.write_json(out / "results.json", document)
    write_text(out / "table.md", text)


def _told(
    out: Path,
    goals: Sequence[Goal],
    labels: Mapping[str, str],
    results: Results,
    cases: Sequence[folder.Case],
) -> int:
    """Prints what became of the goals; 1 if a case that was asked for failed."""
    if goals:
        print(table(goal_rows(goals, results, labels)))
    print(out)
    return int(any("failed" in results[case.key] for case in cases))


def chosen(config: Config) -> list[Case]:
    """The rows that a configuration asks for. Raises: ValueError if there are none."""
    widths, lengths = config.widths, config.lengths
    sizes: dict[str, Sequence[int]] = {} if widths is None else {"widths": widths}
    sizes |= {} if lengths is None else {"lengths": lengths}
    cases: list[Case] = []
    if config.suite in ("goals", "all"):
        cases += [
            case
            for case in conv.cases.goals()
            if (widths is None or case.width in widths)
            and (lengths is None or {case.length, case.beside} & {*lengths})
        ]
    if config.suite in ("sweep", "all"):
        cases += conv.cases.sweep(**sizes)
    if config.suite == "quick":
        cases += conv.cases.quick(**sizes)
    cases = [kept for case in cases if (kept := _in_modes(case, config.modes)).contenders]
    if not cases:
        asked = {**sizes, "modes": config.modes}
        given = [f"{name} {json.dumps(values)}" for name, values in asked.items() if values]
        raise ValueError(
            f"no row of the suite {config.suite} has {' and '.join(given)}; leave some of them out"
        )
    return cases


def _in_modes(case: Case, modes: Sequence[Mode]) -> Case:
    """The case without the contenders of other modes; errors do not hang on the mode."""
    if case.work == "error":
        return case
    kept = tuple(name for name in case.contenders if case.mode(name) in modes)
    memory = tuple(name for name in case.memory if name in kept)
    return replace(case, contenders=kept, memory=memory)
