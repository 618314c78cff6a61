"""Jobs in processes of their own, several at a time: what every sweep is made of.

Each job has a folder of its own, from which it goes on after an interruption, and in which its
record is when it is finished. What its process prints is in the folder's log.txt; if the job fails,
failed.txt says why, and the next call tries it again.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM
from typing import Any, Generic, Protocol, TypeVar

from hyena.arguments import plural
from hyena.files import atomic
from hyena.training.metrics import Report
from hyena.training.processes import StopRequest, read_request, start

FAILED = "failed.txt"
"""In the folder of a job that failed: why."""
LOG = "log.txt"
"""In a job's folder: what its process has printed."""
_LOOK_EVERY = 0.05  # seconds

Job = TypeVar("Job")
Found = TypeVar("Found")


@dataclass(frozen=True)
class SweepEnd:
    """How a call that runs jobs ended.

    Attributes:
        finished: jobs; those that were there already count too.
        failed: jobs.
        signal: number of the signal that stopped the call, 0 if none did.
    """

    finished: int
    failed: int
    signal: int = 0


class Running(Protocol):
    """A job's process, as `subprocess.Popen` has it, here or on another machine."""

    @property
    def returncode(self) -> Any:
        """Its exit code; None while it runs."""

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""

    def wait(self) -> int:
        """Its exit code, when it has ended."""

    def communicate(self) -> Any:
        """Waits for its end, and closes what leads to it."""

    def terminate(self) -> None:
        """Asks it to save what it has, and end."""

    def kill(self) -> None:
        """Ends it."""


class Jobs(Protocol[Job, Found]):
    """What is to be run: jobs, which can be hashed, and the record that each of them leaves."""

    def folder(self, job: Job) -> Path:
        """The job's own folder."""

    def name(self, job: Job) -> str:
        """What it is called in a line."""

    def find(self, job: Job) -> Found | None:
        """Its record; None if it is not finished.

        Raises: ValueError if the record is damaged, or of another job.
        """

    def start(self, job: Job) -> Running:
        """Starts its process, as by `start_job`.

        Raises: RuntimeError if it is refused.
        """

    def line(self, found: Found) -> str:
        """What is said of a record."""

    def after(self, job: Job, found: Found | None) -> Iterable[Job]:
        """The jobs that come next, before all that wait; a job that failed has no record."""


def run_jobs(
    jobs: Jobs[Job, Found],
    waiting: Iterable[Job],
    *,
    total: int,
    at_once: int,
    request: StopRequest,
    say: Callable[[str], None],
    progress: Report | None = None,
    what: str = "cell",
) -> SweepEnd:
    """Runs the jobs that are not finished yet.

    A job that fails is reported, and the others go on. A signal ends the call as soon as the
    running jobs have ended, which save what they have.

    Args:
        jobs: what can be run.
        waiting: which of them, in order.
        total: how many there will be with those that come after others.
        at_once: processes at a time.
        request: of a signal.
        say: is given a line a job.
        progress: called with the jobs that are done, and with their number in all.
        what: a job is, in words.
    """
    course = _Course(jobs, waiting, total, say)
    try:
        while course.waiting or course.running:
            while course.waiting and len(course.running) < at_once and not request.signal:
                course.begin(course.waiting.popleft())
            if request.signal:
                for process in course.running.values():
                    process.terminate()  # it writes its checkpoint first
                for process in course.running.values():
                    process.wait()
                say("interrupted; the same command goes on from here")
                return course.end(request.signal)
            for job, process in list(course.running.items()):
                if process.poll() is not None:
                    course.finish(job, course.running.pop(job))
            if progress is not None:
                progress(len(course.done), total)
            if course.running:
                time.sleep(_LOOK_EVERY)
    finally:
        for process in course.running.values():
            process.kill()
            process.communicate()
    if course.there:
        was = plural(course.there, "was", "were")
        say(f"{course.there} of {total} {plural(total, what)} {was} there already")
    return course.end()


class _Course(Generic[Job, Found]):
    """One call of `run_jobs`: which jobs wait, which run, and what became of the others."""

    def __init__(
        self,
        jobs: Jobs[Job, Found],
        waiting: Iterable[Job],
        total: int,
        say: Callable[[str], None],
    ) -> None:
        self.jobs, self.total, self.say = jobs, total, say
        self.there = 0  # of the jobs, before this call
        self.waiting = deque(waiting)
        self.running: dict[Job, Running] = {}
        self.done: dict[Job, Found | None] = {}  # None if it failed

    def begin(self, job: Job) -> None:
        """Starts a job, if it is not finished already."""
        try:
            found = self.jobs.find(job)
            if found is None:
                self.running[job] = self.jobs.start(job)
        except (ValueError, RuntimeError) as error:  # RuntimeError: the cluster refuses it
            self._fail(job, " ".join(str(error).split()))
            return
        if found is not None:
            self.there += 1
            self._note(job, found)

    def finish(self, job: Job, process: Running) -> None:
        """Takes note of what became of a job whose process has ended, and says so."""
        process.communicate()  # which closes our end of the pipe
        try:
            found = self.jobs.find(job) if process.returncode == 0 else None
        except ValueError as error:
            self._fail(job, str(error))
            return
        if found is None:
            self._fail(job, _cause(self.jobs.folder(job), process.returncode))
            return
        self._note(job, found)
        self._say(job, self.jobs.line(found))

    def end(self, signal: int = 0) -> SweepEnd:
        failed = sum(found is None for found in self.done.values())
        return SweepEnd(len(self.done) - failed, failed, signal)

    def _note(self, job: Job, found: Found | None) -> None:
        self.done[job] = found
        self.waiting.extendleft(reversed(list(self.jobs.after(job, found))))

    def _fail(self, job: Job, cause: str) -> None:
        folder = self.jobs.folder(job)
        atomic.write_text(folder / FAILED, cause + "\n")
        self._note(job, None)
        log = f" (see {folder / LOG})" if (folder / LOG).exists() else ""
        self._say(job, f"failed: {cause.strip()}{log}")

    def _say(self, job: Job, text: str) -> None:
        self.say(f"[{len(self.done)}/{self.total}] {self.jobs.name(job)}: {text}")


def start_job(
    folder: Path, work: str, request: object, *, threads: int | None
) -> subprocess.Popen[bytes]:
    """Starts the process of a job.

    Args:
        folder: of the job.
        work: a function that calls `answer`, such as "hyena.experiments.sweep.work".
        request: what that is given, of JSON's types.
        threads: to compute with, None for PyTorch's number.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FAILED).unlink(missing_ok=True)
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}  # no files of the working directory
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    with open(folder / LOG, "ab") as log:
        return start(work, request, stdout=log, stderr=log, environment=environment)


def answer(do: Callable[[Any], int]) -> None:
    """What a job's process does; it saves and ends when the one that started it is gone.

    Args:
        do: what is asked of it, given the request; returns the number of the signal that stopped
            it, 0 if none did.

    Raises: SystemExit with 1 if the job failed, with 128 + n if signal n stopped it.
    """
    request = read_request(orphaned=lambda: os.kill(os.getpid(), SIGTERM))
    try:
        signal = do(request)
    except (ValueError, OSError, RuntimeError, ImportError, MemoryError) as problem:
        raise SystemExit(
            f"error: {' '.join(str(problem).split()) or type(problem).__name__}"
        ) from problem
    if signal:
        raise SystemExit(128 + signal)


def _cause(folder: Path, code: int) -> str:
    if code < 0:
        return f"its process was killed by signal {-code}, perhaps for want of memory"
    log = folder / LOG
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    lines = text.strip().splitlines()
    return lines[-1].removeprefix("error: ") if lines else f"its process ended with code {code}"
