"""`hyena bench`: the convolution, the operator and generation against their rivals."""

import datetime
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from hyena.bench import convolution as conv
from hyena.bench import folder, generation
from hyena.bench.reference import head_size
from hyena.bench.report import goal_rows
from hyena.cli.bar import bar
from hyena.cli.values import check_at_least
from hyena.files.atomic import write_text
from hyena.files.markdown import table
from hyena.machine import convolution, hardware, setting
from hyena.ops.backend import resolve_backend
from hyena.training.device import find_device

POSITIONAL = "suite"
RESULTS = Path("benchmarks/results")
_MATRIX_ON_DEVICE = 8192  # rows of a product that keeps a GPU busy
# Limits of nothing, for the quick suite.
_SMALL: dict[str, Any] = {"seconds": 0.1, "size": 1 << 20, "matrix": 64}


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
    device: Literal["cpu", "cuda"] = "cpu"
    """Where to measure, not generation. On "cuda" the suites goals, sweep and all are one: rivals
    there, attention in bfloat16, at lengths from 2k to 1M."""
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
        if generation and self.widths is not None:
            raise ValueError("the suite generate has no widths; leave --widths out")
        if generation and self.device != "cpu":
            raise ValueError("the suite generate is measured on the CPU; leave --device out")
        for name in ("quick", "large"):
            if getattr(self, name) and not generation:
                raise ValueError(f"{name} is of the suite generate, not of {self.suite}")


def run(config: Config) -> int:
    """Measures, writes the report and prints what became of the goals.

    The convolution is measured in processes of its own, generation in this one.

    Returns: 0, or 1 if a case could not be measured.
    Raises: ValueError if the device is not there, or on results of another setting.
    """
    find_device(config.device)
    resolve_backend("auto")  # a HYENA_ISA that cannot be is an error at once, not in every case
    before = torch.get_num_threads()
    threads, seconds, repeats = config.threads or before, config.seconds, config.repeats
    where = {**setting(), **convolution(), "threads": threads, "device": "cpu"}
    del where["command"]
    machine = hardware()
    if config.device != "cpu":
        name = torch.get_device_module(config.device).get_device_name()
        where |= {"backend": "torch", "kernel": "none: it is the CPU's"}
        where["device"] = f"{config.device}, {name}"
        machine = "-".join(re.findall(r"[a-z0-9.]+", name.lower()))
    suite: Any  # one of the two modules, which have the same parts
    cases: Sequence[folder.Case]
    measure: Callable[..., dict[str, folder.Result]]
    if config.suite == "generate":
        suite, what = generation, "generation"
        cases = generation.cases.chosen(config.lengths, small=config.quick, large=config.large)
        seconds = seconds or generation.run.SECONDS
        where |= generation.run.setting(seconds, repeats)
        one = partial(generation.run.measure, seconds=seconds, repeats=repeats)
        measure = partial(folder.run, measure=lambda case, _: one(case))
        with_goals = not config.quick
    else:
        suite, what = conv, "convolution"
        cases = conv.cases.chosen(config.suite, config.widths, config.lengths, config.device)
        del where["allocator"]
        where["seconds"] = seconds or "those of the suite"  # cases timed otherwise are others
        where["repeats"] = repeats or "those of the suite"
        limits = dict(_SMALL) if config.suite == "quick" else {}
        if config.device != "cpu":
            limits = {"matrix": _MATRIX_ON_DEVICE, **limits, "device": config.device}
        measure = partial(conv.run.run, threads=threads, seconds=seconds, limits=limits)
        measure = partial(measure, repeats=repeats or 100)
        with_goals = config.suite in ("goals", "all")
    out = config.out or RESULTS / f"{what}_{machine}_{datetime.date.today():%Y-%m-%d}"
    if config.fresh:
        folder.clear(out)
    folder.open_folder(out, where)
    print(f"ours: {where['backend']} backend, kernel {where['kernel']}; threads: {threads}")
    torch.set_num_threads(threads)
    try:
        with bar("rows") as report:
            results = measure(cases, out, progress=lambda n: report(n, len(cases)))
    finally:
        torch.set_num_threads(before)
    goals = suite.goals.goals() if config.device == "cpu" else conv.goals.goals(config.device)
    document = {"setting": where, "goals": [goal.record(results) for goal in goals]}
    if suite is conv:
        found = folder.read_limits(out)
        document |= {"limits": found, "cells": results}
        text = conv.report.report(results, where, found)
    else:
        document["rows"] = results
        text = generation.report.report(results, where)
    folder.write_json(out / "results.json", document)
    write_text(out / "table.md", text)
    suite.report.draw(results, out)
    if with_goals:
        print(table(goal_rows(goals, results, suite.cases.CONTENDERS)))
    print(out)
    return int(any("failed" in results[case.key] for case in cases))
