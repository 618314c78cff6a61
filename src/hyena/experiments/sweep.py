"""Running the cells of a sweep, several at a time, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM

from hyena.arguments import plural
from hyena.experiments.cell import CellConfig, plain
from hyena.experiments.measure import with_interval
from hyena.experiments.plan import Group, write_plan
from hyena.experiments.record import FAILED, Result, choose, find_finished, read_result
from hyena.experiments.run import run_cell
from hyena.files import atomic
from hyena.files.folder import SWEEP, locked, refuse_other
from hyena.files.records import from_plain
from hyena.training.metrics import Report
from hyena.training.processes import read_request, start, stop_on_signal

LOG = "log.txt"
_LOOK_EVERY = 0.05  # seconds


@dataclass(frozen=True)
class SweepEnd:
    """How a call of `run_sweep` ended.

    Attributes:
        finished: cells; those that were there already count too.
        failed: cells.
        signal: number of the signal that stopped the call, 0 if none did.
    """

    finished: int
    failed: int
    signal: int = 0


@dataclass(frozen=True)
class _Job:
    """A cell to run: a trial of a group with a seed, by their places."""

    group: int
    trial: int
    seed: int


class _Cells:
    """The cells of a sweep: which wait, which run, and what became of the others."""

    def __init__(self, groups: Sequence[Group], say: Callable[[str], None]) -> None:
        self.groups, self.say = groups, say
        self.total = sum(len(group.trials) + len(group.cells[0]) - 1 for group in groups)
        self.there = 0  # of them, before this call
        # The trials, and where there is one alone all its seeds.
        self.waiting = deque(
            _Job(number, trial, seed)
            for number, group in enumerate(groups)
            for trial, cells in enumerate(group.cells)
            for seed in range(len(cells) if len(group.trials) == 1 else 1)
        )
        self.running: dict[_Job, subprocess.Popen[bytes]] = {}
        self.done: dict[_Job, Result | None] = {}  # None if it failed

    def cell(self, job: _Job) -> CellConfig:
        return self.groups[job.group].cells[job.trial][job.seed]

    def begin(self, job: _Job) -> None:
        """Starts a cell, if it is not finished already."""
        cell = self.cell(job)
        try:
            result = find_finished(cell)
        except ValueError as error:
            _fail(cell, str(error))
            self.finish(job, None)
            return
        if result is None:
            self.running[job] = _start(cell)
        else:
            self.there += 1
            self._note(job, result)

    def finish(self, job: _Job, result: Result | None) -> None:
        """Takes note of what became of a cell, and says so."""
        self._note(job, result)
        self.say(f"[{len(self.done)}/{self.total}] {self._line(job)}")

    def end(self, signal: int = 0) -> SweepEnd:
        failed = sum(result is None for result in self.done.values())
        return SweepEnd(len(self.done) - failed, failed, signal)

    def _note(self, job: _Job, result: Result | None) -> None:
        """After the last trial the other seeds of the best wait, before the trials of other groups:
        a table fills row by row."""
        self.done[job] = result
        group = self.groups[job.group]
        trials = [_Job(job.group, trial, 0) for trial in range(len(group.trials))]
        if len(trials) == 1 or job.seed or not all(trial in self.done for trial in trials):
            return
        best = choose([self.done[trial] for trial in trials])
        if best is not None:
            seeds = range(1, len(group.cells[best]))
            self.waiting.extendleft(_Job(job.group, best, seed) for seed in reversed(seeds))

    def _line(self, job: _Job) -> str:
        group, cell, result = self.groups[job.group], self.cell(job), self.done[job]
        trial = f" trial {job.trial + 1}/{len(group.trials)}" if len(group.trials) > 1 else ""
        name = f"{group}{trial} seed {cell.seed}"
        if result is None:
            cause = (cell.out / FAILED).read_text(encoding="utf-8").strip()
            return f"{name}: failed: {cause} (see {cell.out / LOG})"
        found = f"{result.steps} {plural(result.steps, 'step')}, {result.minutes:.1f} min"
        return f"{name}: {with_interval(result.test)}, {found}"


def run_sweep(
    groups: Sequence[Group],
    out: Path,
    *,
    jobs: int,
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
        say: is given a line a cell.
        progress: called with the cells that are done, and with their number in all.

    Raises: OSError if the folder cannot be written; RuntimeError if another sweep is using it.
    """
    refuse_other(out, SWEEP)
    with locked(out), stop_on_signal() as request:
        write_plan(out, groups)
        cells = _Cells(groups, say)
        try:
            while cells.waiting or cells.running:
                while cells.waiting and len(cells.running) < jobs and not request.signal:
                    cells.begin(cells.waiting.popleft())
                if request.signal:
                    for process in cells.running.values():
                        process.terminate()  # it writes its checkpoint first
                    for process in cells.running.values():
                        process.wait()
                    say("interrupted; the same command goes on from here")
                    return cells.end(request.signal)
                for job, process in list(cells.running.items()):
                    if process.poll() is not None:
                        cells.finish(job, _end(cells.cell(job), cells.running.pop(job)))
                if progress is not None:
                    progress(len(cells.done), cells.total)
                if cells.running:
                    time.sleep(_LOOK_EVERY)
        finally:
            for process in cells.running.values():
                process.kill()
                process.communicate()
    if cells.there:
        of = plural(cells.total, "cell")
        was = plural(cells.there, "was", "were")
        say(f"{cells.there} of {cells.total} {of} {was} there already")
    return cells.end()


def work() -> None:
    """What the cell's process does; it saves and ends when the one that started it is gone.

    Raises: SystemExit with 1 if the cell failed, with 128 + n if signal n stopped it.
    """
    request = read_request(orphaned=lambda: os.kill(os.getpid(), SIGTERM))
    try:
        end = run_cell(from_plain(CellConfig, request), say=lambda line: print(line, flush=True))
    except (ValueError, OSError, RuntimeError, ImportError, MemoryError) as problem:
        raise SystemExit(
            f"error: {' '.join(str(problem).split()) or type(problem).__name__}"
        ) from problem
    if end.signal:
        raise SystemExit(128 + end.signal)


def _start(cell: CellConfig) -> subprocess.Popen[bytes]:
    """Starts the cell's process."""
    cell.out.mkdir(parents=True, exist_ok=True)
    (cell.out / FAILED).unlink(missing_ok=True)
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}  # no files of the working directory
    if cell.threads is not None:
        environment["OMP_NUM_THREADS"] = str(cell.threads)
    with open(cell.out / LOG, "ab") as log:
        return start(
            "hyena.experiments.sweep.work",
            plain(cell),
            stdout=log,
            stderr=log,
            environment=environment,
        )


def _end(cell: CellConfig, process: subprocess.Popen[bytes]) -> Result | None:
    """The result of a process that has ended; None, and a note in its folder, if it failed."""
    process.communicate()  # which closes our end of the pipe
    try:
        result = read_result(cell.out) if process.returncode == 0 else None
    except ValueError as error:
        _fail(cell, str(error))
        return None
    if result is None:
        _fail(cell, _cause(cell, process.returncode))
    return result


def _fail(cell: CellConfig, cause: str) -> None:
    atomic.write_text(cell.out / FAILED, cause + "\n")


def _cause(cell: CellConfig, code: int) -> str:
    if code < 0:
        return f"its process was killed by signal {-code}, perhaps for want of memory"
    lines = (cell.out / LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1].removeprefix("error: ") if lines else f"its process ended with code {code}"
