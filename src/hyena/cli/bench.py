"""`hyena bench`: the convolution, the operator and generation against their rivals."""

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from hyena.bench import cases, generation_runner, generation_suite, runner
from hyena.bench.cases import Cell, Mode
from hyena.bench.drawings import draw
from hyena.bench.generation_goals import goals as generation_goals
from hyena.bench.goals import goals
from hyena.bench.measure import Result
from hyena.bench.report import goal_rows, report, table
from hyena.bench.rivals import head_size
from hyena.cli.bar import bar
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
    memory: bool = True
    """Measure peak memory too, each figure in a process of its own."""
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
        for name in ("threads", "seconds", "repeats"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} is {value}; it must be more than 0")
        for name in ("widths", "lengths"):
            values = getattr(self, name)
            if values is not None and (not values or min(values) < 1):
                raise ValueError(f"{name} is {values}; it must be a list of numbers above 0")
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

    Returns: 0, or 1 if a row could not be measured.
    """
    if config.suite == "generate":
        return _generate(config)
    cells = chosen(config)
    name = f"convolution_{hardware()}_{datetime.date.today():%Y-%m-%d}"
    out = RESULTS / name if config.out is None else config.out
    threads = torch.get_num_threads() if config.threads is None else config.threads
    resolve_backend("auto")  # a HYENA_ISA that cannot be is an error at once, not in every row
    where = {**setting(), **convolution(), "threads": threads}
    for name in ("seconds", "repeats"):  # so that rows timed otherwise are not taken for these
        where[name] = getattr(config, name) or "those of the suite"
    del where["allocator"], where["command"]
    if config.fresh:
        runner.clear(out)
    quick = config.suite == "quick"
    print(f"ours: {where['backend']} backend, kernel {where['kernel']}; threads: {threads}")
    options = runner.Options(threads, config.repeats or 100, config.seconds, config.memory)
    with bar("rows") as progress:
        results = runner.run(
            cells,
            out,
            options,
            where,
            limits=_SMALL if quick else None,
            progress=None if progress is None else lambda n: progress(n, n, len(cells)),
        )
    write(out, results, where)
    if any(cell.suite == "goals" for cell in cells):
        print(table(goal_rows(goals(), results)))
    print(out)
    return int(any("failed" in results[cell.key] for cell in cells))


def _generate(config: Config) -> int:
    """The same of generation, in this process."""
    rows = generation_suite.chosen(
        config.lengths, small=config.quick, large=config.large, memory=config.memory
    )
    name = f"generation_{hardware()}_{datetime.date.today():%Y-%m-%d}"
    out = RESULTS / name if config.out is None else config.out
    seconds = config.seconds or generation_suite.SECONDS
    resolve_backend("auto")
    if config.fresh:
        runner.clear(out)
    before = torch.get_num_threads()
    torch.set_num_threads(config.threads or before)
    try:
        mine = generation_suite.setting(seconds, config.repeats)
        where = {**setting(), **convolution(), **mine}
        del where["command"]
        print(f"ours: {where['backend']} backend, kernel {where['kernel']}")
        with bar("rows") as progress:
            results = generation_runner.run(
                rows,
                out,
                where,
                seconds=seconds,
                repeats=config.repeats,
                progress=None if progress is None else lambda n: progress(n, n, len(rows)),
            )
    finally:
        torch.set_num_threads(before)
    generation_suite.write(out, results, where)
    if not config.quick:
        print(table(goal_rows(generation_goals(), results)))
    print(out)
    return int(any("failed" in results[row.key] for row in rows))


def chosen(config: Config) -> list[Cell]:
    """The rows that a configuration asks for. Raises: ValueError if there are none."""
    cells: list[Cell] = []
    if config.suite in ("goals", "all"):
        cells += [
            cell
            for cell in cases.goals()
            if (config.widths is None or cell.width in config.widths)
            and (config.lengths is None or {cell.length, cell.beside} & set(config.lengths))
        ]
    sizes: dict[str, Sequence[int]] = {}
    if config.widths is not None:
        sizes["widths"] = config.widths
    if config.lengths is not None:
        sizes["lengths"] = config.lengths
    if config.suite in ("sweep", "all"):
        cells += cases.sweep(**sizes)
    if config.suite == "quick":
        cells += cases.quick(**sizes)
    cells = [kept for cell in cells if (kept := _in_modes(cell, config.modes)).contenders]
    if not cells:
        asked = {"widths": config.widths, "lengths": config.lengths, "modes": config.modes}
        given = [f"{name} {json.dumps(values)}" for name, values in asked.items() if values]
        raise ValueError(
            f"no row of the suite {config.suite} has {' and '.join(given)}; leave some of them out"
        )
    return cells


def _in_modes(cell: Cell, modes: Sequence[Mode]) -> Cell:
    """The cell without the contenders of other modes; errors do not hang on the mode."""
    if cell.work == "error":
        return cell
    kept = tuple(name for name in cell.contenders if cell.mode(name) in modes)
    memory = tuple(name for name in cell.memory if name in kept)
    return replace(cell, contenders=kept, memory=memory)


def write(out: Path, results: Mapping[str, Result], where: Mapping[str, Any]) -> None:
    """``results.json``, ``table.md`` and the drawings."""
    limits = runner.read_limits(out)
    figures = []
    for goal in goals():
        found = goal.measure(results)
        row = {name: value for name, value in asdict(goal).items() if name != "measure"}
        row["measured"] = None if found is None else found._asdict()
        figures.append({**row, "met": None if found is None else goal.met(found)})
    document = {"setting": where, "limits": limits, "goals": figures, "cells": results}
    text = json.dumps(document, indent=1) + "\n"
    (out / "results.json").write_text(text, encoding="utf-8")
    (out / "table.md").write_text(report(results, where, limits), encoding="utf-8")
    draw(results, out)
