"""Where the jobs of a sweep run: in processes of this machine, or as jobs of a cluster.

The cluster's jobs are submitit's, which hands them to Slurm by ``sbatch`` and needs nothing to run
beside it. A job has the same folder, record and log as a process here, so that either goes on with
what the other has begun, if the folder is on a disk that all machines have.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Literal, Protocol

from hyena.data.packages import require
from hyena.experiments.jobs import LOG, Running, start_job

Executor = Literal["processes", "slurm", "local"]

SUBMITTED = "submitit"
"""Folder of a sweep in which submitit keeps its files."""
_LOOK_EVERY = 0.1  # seconds


class Start(Protocol):
    """Starts a job, as `hyena.experiments.jobs.start_job`."""

    def __call__(
        self, folder: Path, work: str, request: object, *, threads: int | None
    ) -> Running: ...


def starter(executor: Executor, options: Mapping[str, Any], out: Path) -> Start:
    """What starts the jobs of a sweep.

    Args:
        executor: "processes" of this machine, jobs of "slurm", or "local", which are such jobs on
            this machine, to try it out.
        options: of each job, as ``update_parameters`` of submitit's ``AutoExecutor`` takes them,
            such as ``slurm_partition`` and ``timeout_min``.
        out: folder of the sweep.

    Raises: ValueError on an option that there is not, or options of processes; ImportError if
        submitit is not installed; RuntimeError if this machine has no Slurm.
    """
    if executor == "processes":
        if options:
            raise ValueError(
                f"job_options: {', '.join(options)} are of jobs of a cluster; leave them out, or "
                "give --executor slurm (executor=)"
            )
        return start_job
    require("submitit", f"executor {executor!r}", "hyena[cluster]")
    import submitit

    jobs = submitit.AutoExecutor(folder=out / SUBMITTED, cluster=executor)
    try:
        jobs.update_parameters(name=f"hyena-{out.name}", **options)
    except (NameError, TypeError, ValueError) as error:  # NameError is submitit's own
        raise ValueError(f"job_options: {' '.join(str(error).split())}") from error

    def start(folder: Path, work: str, request: object, *, threads: int | None) -> Running:
        folder.mkdir(parents=True, exist_ok=True)
        job = jobs.submit(_Job(folder, work, request, threads))
        return _Submitted(job, executor, folder / LOG)

    return start


class _Job:
    """What a job of the cluster does: a process as here, which is told to save when it has to end.

    submitit pickles it, and calls ``checkpoint`` before the job's time is over or it is preempted;
    then it is queued again, and goes on from there.
    """

    def __init__(self, folder: Path, work: str, request: object, threads: int | None) -> None:
        self._folder, self._work, self._request, self._threads = folder, work, request, threads
        self._process: subprocess.Popen[bytes] | None = None
        self._waiting: threading.Thread | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_process": None, "_waiting": None}

    def __call__(self) -> int:
        signal.signal(signal.SIGTERM, self._end)  # which submitit passes over
        process = start_job(self._folder, self._work, self._request, threads=self._threads)
        # A signal may come while this waits, and wait for the process as well: of the calls that
        # wait for a process one alone may be under way, so a thread makes it.
        self._process, self._waiting = process, threading.Thread(target=process.wait)
        self._waiting.start()
        self._waiting.join()
        return process.returncode

    def checkpoint(self) -> Any:
        """Ends the process, which saves what it has; what is to be queued again."""
        import submitit

        if self._process is not None and self._waiting is not None:
            self._process.terminate()
            self._waiting.join()
        return submitit.helpers.DelayedSubmission(self)

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        if self._process is not None:
            self._process.terminate()


class _Submitted:
    """A job that was handed to the cluster."""

    def __init__(self, job: Any, executor: Executor, log: Path) -> None:
        self._job, self._executor, self._log = job, executor, log
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None and self._job.done():
            self.returncode = self._code()
        return self.returncode

    def wait(self) -> int:
        while (code := self.poll()) is None:
            time.sleep(_LOOK_EVERY)
        return code

    def communicate(self) -> None:
        """Waits for it: there is no pipe to read."""
        self.wait()

    def terminate(self) -> None:
        if self._executor == "local":  # submitit would not wait for what it saves
            if self.poll() is None:
                os.kill(int(self._job.job_id), signal.SIGTERM)
        else:
            self._job.cancel(check=False)  # SIGTERM, and after some seconds SIGKILL

    kill = terminate

    def _code(self) -> int:
        """That with which its process ended; 1 if the job ended before that, or never began, of
        which no process could write why into the log."""
        error = self._job.exception()
        if error is None:
            return int(self._job.result())
        with open(self._log, "a", encoding="utf-8") as log:
            log.write(f"error: {' '.join(str(error).split())}\n")
        return 1
