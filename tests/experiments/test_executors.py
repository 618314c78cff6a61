"""Sweeps whose cells are jobs of a cluster, tried on this machine."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from hyena.experiments.executors import SUBMITTED, starter
from hyena.experiments.jobs import FAILED, LOG, SweepEnd, run_jobs
from hyena.training.processes import StopRequest

submitit = pytest.importorskip("submitit")

OPTIONS = {"timeout_min": 5}


class Counts:
    """Jobs, each a number, by the executor for trials."""

    def __init__(self, out: Path, **request: Any) -> None:
        self.out, self.request = out, request
        self._start = starter("local", OPTIONS, out)

    def folder(self, job: int) -> Path:
        return self.out / str(job)

    def name(self, job: int) -> str:
        return f"number {job}"

    def find(self, job: int) -> str | None:
        file = self.folder(job) / "record"
        return file.read_text() if file.exists() else None

    def start(self, job: int) -> Any:
        request = {"number": job, "folder": str(self.folder(job)), **self.request}
        return self._start(self.folder(job), "counting_job.work", request, threads=1)

    def line(self, found: str) -> str:
        return f"found {found}"

    def after(self, job: int, found: str | None) -> list[int]:
        return []


@pytest.fixture(autouse=True)
def jobs_find_this_module(monkeypatch: pytest.MonkeyPatch) -> None:
    here = str(Path(__file__).parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([here, os.environ.get("PYTHONPATH", "")]))


def run(jobs: Counts, *numbers: int, request: StopRequest | None = None) -> Any:
    lines: list[str] = []
    request = request or StopRequest()
    end = run_jobs(jobs, numbers, total=len(numbers), at_once=2, request=request, say=lines.append)
    return end, lines


def test_jobs_leave_records_and_logs_as_processes_do(tmp_path: Path) -> None:
    end, lines = run(Counts(tmp_path), 1, -1)
    assert end == SweepEnd(1, 1)
    assert any("number 1: found 1" in line for line in lines)
    assert any("number -1: failed: a number below zero" in line for line in lines)
    assert (tmp_path / "-1" / FAILED).read_text() == "a number below zero\n"
    assert (tmp_path / "1" / LOG).read_text() == "threads 1\n"
    assert (tmp_path / SUBMITTED).is_dir()


def test_a_sweep_that_is_interrupted_lets_its_jobs_save_and_goes_on(tmp_path: Path) -> None:
    jobs, request = Counts(tmp_path, waits=True), StopRequest()

    def interrupt() -> None:
        while not (tmp_path / "1" / "waiting").exists():
            time.sleep(0.01)
        request.signal = signal.SIGINT

    thread = threading.Thread(target=interrupt)
    thread.start()
    end, lines = run(jobs, 1, request=request)
    thread.join()
    assert end.signal == signal.SIGINT
    assert lines == ["interrupted; the same command goes on from here"]
    assert (tmp_path / "1" / "saved").exists()
    (tmp_path / "1" / "go").touch()
    assert run(jobs, 1)[0] == SweepEnd(1, 0)


def test_a_job_that_is_preempted_saves_and_is_queued_again(tmp_path: Path) -> None:
    jobs = Counts(tmp_path, waits=True)
    process = jobs.start(1)
    while not (tmp_path / "1" / "waiting").exists():
        time.sleep(0.01)
    (tmp_path / "1" / "go").touch()
    controller = process._job.job_id
    (task,) = Path(f"/proc/{controller}/task/{controller}/children").read_text().split()
    os.kill(int(task), signal.SIGUSR2)  # as Slurm does when a job is preempted or out of time
    assert process.wait() == 0
    assert (tmp_path / "1" / "saved").exists()
    assert jobs.find(1) == "1"
    assert (tmp_path / "1" / LOG).read_text().count("threads 1") == 2  # it began twice


def test_a_job_that_never_begins_says_why_and_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submitit.core.core.Job, "_results_timeout_s", 0)
    jobs = Counts(tmp_path)
    jobs.folder(1).mkdir()
    (jobs.folder(1) / LOG).write_text("error: of an earlier call\n")
    without = property(lambda executor: "/no/such/python")
    start = jobs.start

    def broken(job: int) -> Any:
        with monkeypatch.context() as patch:
            if job < 3:
                patch.setattr(submitit.LocalExecutor, "_submitit_command_str", without)
            return start(job)

    monkeypatch.setattr(jobs, "start", broken)
    end, lines = run(jobs, 1, 2, 3)
    assert end == SweepEnd(1, 2)
    assert len(lines) == 3
    for job in (1, 2):
        expected = rf"number {job}: failed: Job .* has not produced any output .*\(see .*log.txt\)"
        assert any(re.search(expected, line) for line in lines)
        assert "has not produced any output" in (tmp_path / str(job) / FAILED).read_text()


def test_options_of_jobs(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="job_options: timeout_min are of jobs of a cluster; le"):
        starter("processes", OPTIONS, tmp_path)
    with pytest.raises(ValueError, match=r"^job_options: .*minutes"):
        starter("local", {"minutes": 3}, tmp_path)


def test_where_there_is_no_slurm_it_is_told(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="are you indeed on a slurm cluster"):
        starter("slurm", {}, tmp_path)


def test_without_submitit_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: Any
) -> None:
    from importlib import util

    monkeypatch.setattr(util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"'submitit', which is not .* 'hyena\[cluster\]'"):
        starter("local", {}, tmp_path)
