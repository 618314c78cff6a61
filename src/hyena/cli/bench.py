"""`hyena bench`: convolution, operator, generation and whole models against their rivals."""

import datetime
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from hyena.bench import convolution as conv
from hyena.bench import folder, generation, genomes, model
from hyena.bench.allocator import describe
from hyena.bench.goals import Goal, Results
from hyena.bench.model.work import peak
from hyena.bench.reference import head_size
from hyena.bench.report import goal_rows
from hyena.cli.bar import bar
from hyena.cli.values import check_at_least
from hyena.files.atomic import write_text
from hyena.files.folder import TABLE, refuse_other
from hyena.files.markdown import table
from hyena.machine import convolution, hardware, multiplies_bfloat16, setting
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

    suite: Literal["goals", "sweep", "all", "quick", "generate", "memory", "train", "genomes"] = (
        "goals"
    )
    """The goals and what they need (about 10 minutes on two cores); a sweep of all rivals over
    lengths from 256 to 1M, which takes longer; both; or a little of everything in seconds. Of
    generation, token by token: its goals (about 15 minutes). Of whole models: memory and time of
    long inputs, up to a million positions, or of a step of training, which take longer. Of
    genomics: scores, vectors, preparing, and the operators of StripedHyena 2 (12 to 25 minutes)."""
    widths: list[int] | None = None
    """Widths D of the sweep, multiples of 64, or below it for attention of one head; none takes 64
    and 256, and 8 in the suite quick. Of the goals, those of these widths only."""
    lengths: list[int] | None = None
    """Lengths L of the sweep; none takes powers of two from 256 to 1M, 1000, 10007 and 100003. Of
    the goals, those of these lengths only; of generation, contexts."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where to measure the convolution and the operator. On "cuda" the suites goals, sweep and all
    are one: rivals there, attention in bfloat16, at lengths from 2k to 1M."""
    threads: int | None = None
    """Threads; none takes PyTorch's number."""
    seconds: float | None = None
    """Budget of a row's samples; none takes 4 for the goals and 2 for the sweep. A call that takes
    much longer is timed once. Of generation, of a contender that need not do all tokens: 6. Of
    genomics the row's own."""
    repeats: int | None = None
    """Samples of a contender in a row at most; none takes 100. Of generation, how often the tokens
    of a row are generated; none takes the row's own number, from 2 to 9. Of whole models,
    processes of each contender; none takes 3, or 1 of what takes minutes."""
    quick: bool = False
    """Of generation, whole models and genomics: a little of everything, to see that it runs."""
    only: str | None = None
    """Only the rows that have this in the names that the command prints; none takes all."""
    large: bool = False
    """Of generation: the model of 125M parameters at contexts up to 65,536 too, which takes
    longer."""
    old: Path | None = None
    """Of whole models: the Python of an older build, which does the same work in turns."""
    out: Path | None = None
    """Folder of the results; none takes benchmarks/results/WHAT_HARDWARE_DATE, WHAT being
    convolution, generation, memory, train or genomes. Rows that it has already are kept, so that
    an interrupted run goes on."""
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
        whole = self.suite in ("memory", "train")
        on_cpu = whole or self.suite in ("generate", "genomes")
        if self.device != "cpu" and on_cpu:
            raise ValueError(f"the suite {self.suite} is measured on the CPU; leave --device out")
        refused = {
            "widths": on_cpu,
            "lengths": whole or self.suite == "genomes",
            "seconds": whole,
            "quick": not on_cpu,
            "large": self.suite != "generate",
            "old": not whole,
        }
        for name, is_refused in refused.items():
            if is_refused and getattr(self, name):
                raise ValueError(f"the suite {self.suite} has no {name}; leave --{name} out")


class _Suite(NamedTuple):
    """What a suite measures, and what becomes of it."""

    what: str
    """Names the folder of the results."""
    cases: Sequence[folder.Case]
    setting: dict[str, Any]
    measure: Callable[..., dict[str, folder.Result]]
    """Of cases and a folder; with ``progress``."""
    goals: Sequence[Goal]
    shown: bool
    """Whether the goals are printed."""
    labels: Mapping[str, str]
    report: Callable[[Results, dict[str, Any], Path], str]
    draw: Callable[[Results, Path], object]
    rows: str = "rows"
    """What the record calls its cases."""


def run(config: Config) -> int:
    """Measures, writes the report and prints what became of the goals.

    Generation is measured in this process, all else in processes of its own.

    Returns: 0, or 1 if a case could not be measured.
    Raises: ValueError if the device or the older build is not there, or on results of another
        setting.
    """
    find_device(config.device)
    resolve_backend("auto")  # a HYENA_ISA that cannot be is an error at once, not in every case
    before = torch.get_num_threads()
    threads = config.threads or before
    where = {**setting(), **convolution(), "threads": threads, "device": "cpu"}
    del where["command"], where["allocator"]  # a suite says its own
    machine = hardware()
    if config.device != "cpu":
        name = torch.get_device_module(config.device).get_device_name()
        where |= {"backend": "torch", "kernel": "none: it is the CPU's"}
        where["device"] = f"{config.device}, {name}"
        machine = "-".join(re.findall(r"[a-z0-9.]+", name.lower()))
    suite = _only(_suite(config, threads), config)
    where |= suite.setting
    out = config.out or RESULTS / f"{suite.what}_{machine}_{datetime.date.today():%Y-%m-%d}"
    refuse_other(out, TABLE)  # whose file of results has the same name
    if config.fresh:
        folder.clear(out)
    folder.open_folder(out, where)
    print(f"ours: {where['backend']} backend, kernel {where['kernel']}; threads: {threads}")
    torch.set_num_threads(threads)
    try:
        with bar("rows") as report:
            count = len(suite.cases)
            results = suite.measure(suite.cases, out, progress=lambda n: report(n, count))
    finally:
        torch.set_num_threads(before)
    document: dict[str, Any] = {"setting": where}
    document["goals"] = [goal.record(results) for goal in suite.goals]
    if suite.what == "convolution":
        document["limits"] = folder.read_limits(out)
    document[suite.rows] = results
    folder.write_json(out / "results.json", document)
    write_text(out / "table.md", suite.report(results, where, out))
    suite.draw(results, out)
    if suite.shown:
        print(table(goal_rows(suite.goals, results, suite.labels)))
    print(out)
    return int(any("failed" in results[case.key] for case in suite.cases))


def _suite(config: Config, threads: int) -> _Suite:
    if config.suite == "generate":
        return _of_generation(config)
    if config.suite == "genomes":
        return _of_genomes(config, threads)
    if config.suite in ("memory", "train"):
        return _of_models(config, config.suite, threads)
    return _of_convolution(config, threads)


def _only(suite: _Suite, config: Config) -> _Suite:
    """The rows that are asked for. Raises: ValueError if there are none."""
    if config.only is None:
        return suite
    cases = [case for case in suite.cases if config.only in str(case)]
    if not cases:
        raise ValueError(
            f"no row of the suite {config.suite} has {config.only!r:.60} in its name, such as "
            f"{str(suite.cases[0])!r}; leave --only out for all of them"
        )
    return suite._replace(cases=cases)


def _of_convolution(config: Config, threads: int) -> _Suite:
    limits = dict(_SMALL) if config.suite == "quick" else {}
    if config.device != "cpu":
        limits = {"matrix": _MATRIX_ON_DEVICE, **limits, "device": config.device}
    return _Suite(
        "convolution",
        conv.cases.chosen(config.suite, config.widths, config.lengths, config.device),
        {  # cases timed otherwise are others
            "seconds": config.seconds or "those of the suite",
            "repeats": config.repeats or "those of the suite",
        },
        partial(
            conv.run.run,
            threads=threads,
            seconds=config.seconds,
            limits=limits,
            repeats=config.repeats or 100,
        ),
        conv.goals.goals(config.device),
        config.suite in ("goals", "all"),
        conv.cases.CONTENDERS,
        lambda results, where, out: conv.report.report(results, where, folder.read_limits(out)),
        conv.report.draw,
        "cells",
    )


def _of_generation(config: Config) -> _Suite:
    seconds, repeats = config.seconds or generation.run.SECONDS, config.repeats
    measure = partial(generation.run.measure, seconds=seconds, repeats=repeats)
    return _Suite(
        "generation",
        generation.cases.chosen(config.lengths, small=config.quick, large=config.large),
        generation.run.setting(seconds, repeats),
        partial(folder.run, measure=lambda case, _: measure(case)),
        generation.goals.goals(),
        not config.quick,
        generation.cases.CONTENDERS,
        lambda results, where, _: generation.report.report(results, where),
        generation.report.draw,
    )


def _of_models(config: Config, suite: model.cases.Suite, threads: int) -> _Suite:
    if config.old is not None and not config.old.is_file():
        raise ValueError(f"old: expected the Python of an older build, {config.old} is no file")
    peak()  # what the system cannot tell is said before anything is measured
    old = None if config.old is None else str(config.old)
    measure = partial(
        model.run.run,
        threads=threads,
        old=old,
        repeats=config.repeats,
        bfloat16=config.quick or multiplies_bfloat16(),
    )
    return _Suite(
        suite,
        model.cases.chosen(suite, small=config.quick, today=old is not None),
        {"allocator": describe("default"), "repeats": config.repeats or "those of the cases"},
        measure,
        model.goals.goals(suite),
        not config.quick,
        {},
        lambda results, where, _: model.report.report(suite, results, where),
        lambda results, out: None,
    )


def _of_genomes(config: Config, threads: int) -> _Suite:
    peak()
    measure = partial(
        genomes.run.run,
        threads=threads,
        seconds=config.seconds,
        repeats=config.repeats,
        bfloat16=config.quick or multiplies_bfloat16(),
    )
    return _Suite(
        "genomes",
        genomes.cases.chosen(small=config.quick),
        {
            "allocator": describe("default"),
            "seconds": config.seconds or "those of the rows",
            "repeats": config.repeats or "those of the rows",
        },
        measure,
        genomes.goals.goals(),
        not config.quick,
        genomes.report.LABELS,
        lambda results, where, _: genomes.report.report(results, where),
        lambda results, out: None,
    )
