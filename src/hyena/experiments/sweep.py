"""Running the cells of a sweep, several at a time, each in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyena.arguments import plural
from hyena.experiments.cell import CellConfig, plain
from hyena.experiments.executors import Start
from hyena.experiments.jobs import Running, SweepEnd, answer, run_jobs, start_job
from hyena.experiments.measure import with_interval
from hyena.experiments.plan import Group, write_plan
from hyena.experiments.record import Result, choose, find_finished
from hyena.experiments.run import run_cell
from hyena.files.folder import SWEEP, locked, refuse_other
from hyena.files.records import from_plain
from hyena.training.metrics import Report
from hyena.training.processes import stop_on_signal


@dataclass(frozen=True)
class _Job:
    """A cell to run: a trial of a group with a seed, by their places."""

    group: int
    trial: int
    seed: int


class _Cells:
    """The cells of a sweep: its trials first, then the other seeds of the best."""

    def __init__(self, groups: Sequence[Group], start: Start) -> None:
        self.groups, self._begin = groups, start
        self.total = sum(len(group.trials) + len(group.cells[0]) - 1 for group in groups)
        # The trials, and where there is one alone all its seeds.
        self.first = [
            _Job(number, trial, seed)
            for number, group in enumerate(groups)
            for trial, cells in enumerate(group.cells)
            for seed in range(len(cells) if len(group.trials) == 1 else 1)
        ]
        self.done: dict[_Job, Result | None] = {}  # None if it failed

    def folder(self, job: _Job) -> Path:
        return self._cell(job).out

    def name(self, job: _Job) -> str:
        group = self.groups[job.group]
        trial = f" trial {job.trial + 1}/{len(group.trials)}" if len(group.trials) > 1 else ""
        return f"{group}{trial} seed {self._cell(job).seed}"

    def find(self, job: _Job) -> Result | None:
        return find_finished(self._cell(job))

    def start(self, job: _Job) -> Running:
        return _start(self._cell(job), self._begin)

    def line(self, found: Result) -> str:
        took = f"{found.steps} {plural(found.steps, 'step')}, {found.minutes:.1f} min"
        return f"{with_interval(found.test)}, {took}"

    def after(self, job: _Job, found: Result | None) -> list[_Job]:
        """After the last trial the other seeds of the best, before the trials of other groups: a
        table fills row by row."""
        self.done[job] = found
        group = self.groups[job.group]
        trials = [_Job(job.group, trial, 0) for trial in range(len(group.trials))]
        if len(trials) == 1 or job.seed or not all(trial in self.done for trial in trials):
            return []
        best = choose([self.done[trial] for trial in trials])
        if best is None:
            return []
        return [_Job(job.group, best, seed) for seed in range(1, len(group.cells[best]))]

    def _cell(self, job: _Job) -> CellConfig:
        return self.groups[job.group].cells[job.trial][job.seed]


def run_sweep(
    groups: Sequence[Group],
    out: Path,
    *,
    jobs: int,
    start: Start = start_job,
    say: Callable[[str], None] = print,
    progress: Report | None = None,
) -> SweepEnd:
    """Runs the cells that are not finished yet.

    A cell that fails is reported and the others go on; it is tried again in the next call. The
    first SIGINT or SIGTERM ends the call as soon as the running cells have written checkpoints,
    with which the next call goes on; the second one raises KeyboardInterrupt. What a cell prints
    is in its folder's log.txt.

    Args:
        groups: the plan.
        out: the sweep's folder.
        jobs: processes at a time.
        start: starts each of them, see `hyena.experiments.executors.starter`.
        say: is given a line a cell.
        progress: called with the cells that are done, and with their number in all.

    Raises: OSError if the folder cannot be written; RuntimeError if another sweep is using it.
    """
    refuse_other(out, SWEEP)
    with locked(out), stop_on_signal() as request:
        write_plan(out, groups)
        cells = _Cells(groups, start)
        return run_jobs(
            cells,
            cells.first,
            total=cells.total,
            at_once=jobs,
            request=request,
            say=say,
            progress=progress,
        )


def work() -> None:
    """What the cell's process does; raises as `hyena.experiments.jobs.answer`."""
    answer(_run)


def _run(request: Any) -> int:
    end = run_cell(from_plain(CellConfig, request), say=lambda line: print(line, flush=True))
    return end.signal


def _start(cell: CellConfig, start: Start) -> Running:
    """Starts the cell's process."""
    return start(cell.out, "hyena.experiments.sweep.work", plain(cell), threads=cell.threads)
