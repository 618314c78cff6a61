"""Running the cells of a sweep, several at a time, each in a process of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hyena.experiments.cell import CellConfig, plain
from hyena.experiments.measure import with_interval
from hyena.experiments.plan import Group, write_plan
from hyena.experiments.record import FAILED, Result, choose, find_finished, read_result
from hyena.files import atomic
from hyena.files.kinds import SWEEP, refuse_other
from hyena.files.lock import locked
from hyena.training.child import start
from hyena.training.signals import stop_on_signal

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


@dataclass
class _Board:
    """What is known of the cells: results, and failures as None."""

    groups: Sequence[Group]
    done: dict[_Job, Result | None] = field(default_factory=dict)

    def cell(self, job: _Job) -> CellConfig:
        return self.groups[job.group].cells[job.trial][job.seed]

    def first(self) -> list[_Job]:
        """What can be run at once: the trials, and where there is one alone all its seeds."""
        return [
            _Job(number, trial, seed)
            for number, group in enumerate(self.groups)
            for trial, cells in enumerate(group.cells)
            for seed in range(len(cells) if len(group.trials) == 1 else 1)
        ]

    def then(self, job: _Job) -> list[_Job]:
        """What is to be run after a job: the other seeds of the best, if it was the last trial."""
        group = self.groups[job.group]
        if len(group.trials) == 1:
            return []
        trials = [_Job(job.group, trial, 0) for trial in range(len(group.trials))]
        if job.seed or not all(trial in self.done for trial in trials):
            return []
        best = choose([self.done[trial] for trial in trials])
        if best is None:
            return []
        return [_Job(job.group, best, seed) for seed in range(1, len(group.cells[best]))]


def run_sweep(
    groups: Sequence[Group],
    out: Path,
    *,
    jobs: int,
    say: Callable[[str], None] = print,
    progress: Callable[[int, int], None] | None = None,
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
    with locked(out):
        write_plan(out, groups)
        return _run_cells(groups, jobs, say, progress)


def _run_cells(
    groups: Sequence[Group],
    jobs: int,
    say: Callable[[str], None],
    progress: Callable[[int, int], None] | None,
) -> SweepEnd:
    board = _Board(groups)
    total = sum(len(g.trials) + len(g.cells[0]) - 1 for g in groups)
    waiting = deque(board.first())
    running: dict[_Job, subprocess.Popen[bytes]] = {}
    there = 0
    with stop_on_signal() as request:
        try:
            while waiting or running:
                while waiting and len(running) < jobs and not request.signal:
                    job = waiting.popleft()
                    try:
                        result = find_finished(board.cell(job))
                    except ValueError as error:
                        _fail(board.cell(job), str(error))
                        board.done[job] = None
                        say(f"[{len(board.done)}/{total}] {_line(board, job)}")
                    else:
                        if result is None:
                            running[job] = _start(board.cell(job))
                            continue
                        there += 1
                        board.done[job] = result
                    # Seeds come before the trials of other groups: a table fills row by row.
                    waiting.extendleft(reversed(board.then(job)))
                if request.signal:
                    _stop(list(running.values()))
                    failed = sum(result is None for result in board.done.values())
                    say("interrupted; the same command goes on from here")
                    return SweepEnd(len(board.done) - failed, failed, request.signal)
                for job in [job for job, process in running.items() if process.poll() is not None]:
                    board.done[job] = _end(board.cell(job), running.pop(job))
                    waiting.extendleft(reversed(board.then(job)))
                    say(f"[{len(board.done)}/{total}] {_line(board, job)}")
                if progress is not None:
                    progress(len(board.done), total)
                if running:
                    time.sleep(_LOOK_EVERY)
        finally:
            for process in running.values():
                process.kill()
                _close(process)
    if there:
        say(f"{there} of {total} cells were there already")
    failed = sum(result is None for result in board.done.values())
    return SweepEnd(len(board.done) - failed, failed)


def _start(cell: CellConfig) -> subprocess.Popen[bytes]:
    """Starts the cell's process."""
    cell.out.mkdir(parents=True, exist_ok=True)
    (cell.out / FAILED).unlink(missing_ok=True)
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}  # no files of the working directory
    if cell.threads is not None:
        environment["OMP_NUM_THREADS"] = str(cell.threads)
    with open(cell.out / LOG, "ab") as log:
        return start(
            "hyena.experiments.worker",
            plain(cell),
            stdout=log,
            stderr=log,
            environment=environment,
        )


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Has the processes write their checkpoints and waits for them."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait()


def _close(process: subprocess.Popen[bytes]) -> None:
    """Ends our side of a process that has ended or is about to."""
    with contextlib.suppress(BrokenPipeError):
        assert process.stdin is not None
        process.stdin.close()
    process.wait()


def _end(cell: CellConfig, process: subprocess.Popen[bytes]) -> Result | None:
    """The result of a process that has ended; None, and a note in its folder, if it failed."""
    _close(process)
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


def _line(board: _Board, job: _Job) -> str:
    group, cell, result = board.groups[job.group], board.cell(job), board.done[job]
    trial = f" trial {job.trial + 1}/{len(group.trials)}" if len(group.trials) > 1 else ""
    name = f"{group}{trial} seed {cell.seed}"
    if result is None:
        cause = (cell.out / FAILED).read_text(encoding="utf-8").strip()
        return f"{name}: failed: {cause} (see {cell.out / LOG})"
    return f"{name}: {with_interval(result.test)}, {result.steps} steps, {result.minutes:.1f} min"
