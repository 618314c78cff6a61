"""Jobs in processes of their own, whatever they are."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from hyena.experiments import jobs as jobs_module
from hyena.experiments.jobs import FAILED, LOG, SweepEnd, answer, run_jobs, start_job
from hyena.training.processes import StopRequest


class Ended:
    """A process that is over."""

    def __init__(self, code: int = 0) -> None:
        self.stdin, self.returncode = io.BytesIO(), code

    def poll(self) -> int:
        return self.returncode

    wait = communicate = poll


class Numbers:
    """A job a number: its record is a file with it."""

    def __init__(self, out: Path, after: dict[int, list[int]] | None = None) -> None:
        self.out, self.then = out, after or {}
        self.codes: dict[int, int] = {}
        self.started: list[int] = []
        self.seen: list[tuple[int, str | None]] = []

    def folder(self, job: int) -> Path:
        return self.out / str(job)

    def name(self, job: int) -> str:
        return f"number {job}"

    def find(self, job: int) -> str | None:
        file = self.folder(job) / "record"
        found = file.read_text() if file.is_file() else None
        if found == "damaged":
            raise ValueError("the record is damaged")
        return found

    def start(self, job: int) -> Any:
        self.started.append(job)
        self.folder(job).mkdir(exist_ok=True)
        (self.folder(job) / LOG).write_text(f"begun\nerror: no luck with {job}\n")
        if not self.codes.get(job):
            (self.folder(job) / "record").write_text(str(job))
        return Ended(self.codes.get(job, 0))

    def line(self, found: str) -> str:
        return f"found {found}"

    def after(self, job: int, found: str | None) -> Iterable[int]:
        self.seen.append((job, found))
        return self.then.get(job, [])


def run(jobs: Numbers, *waiting: int, **options: Any) -> tuple[SweepEnd, list[str]]:
    lines: list[str] = []
    fields = {"total": len(waiting), "at_once": 1, "request": StopRequest(), **options}
    return run_jobs(jobs, waiting, say=lines.append, **fields), lines


def test_what_comes_after_a_job_is_before_all_that_waits(tmp_path: Path) -> None:
    jobs = Numbers(tmp_path, {1: [4, 5], 5: [6]})
    end, lines = run(jobs, 1, 2, 3, total=6)
    assert end == SweepEnd(6, 0)
    assert jobs.started == [1, 4, 5, 6, 2, 3]
    assert lines[0] == "[1/6] number 1: found 1"


def test_what_is_there_is_not_started_again(tmp_path: Path) -> None:
    progress: list[tuple[int, int]] = []
    jobs = Numbers(tmp_path, {1: [3]})
    run(jobs, 1, 2, total=3)
    again = Numbers(tmp_path, {1: [3]})
    end, lines = run(
        again, 1, 2, total=3, progress=lambda *done: progress.append(done), what="thing"
    )
    assert (end, again.started) == (SweepEnd(3, 0), [])
    assert lines == ["3 of 3 things were there already"]
    assert progress[-1] == (3, 3)
    assert again.seen == [(1, "1"), (3, "3"), (2, "2")]


def test_a_job_that_fails_says_why_and_stops_no_other(tmp_path: Path) -> None:
    jobs = Numbers(tmp_path)
    jobs.codes = {1: 1, 2: -9}
    (tmp_path / "3").mkdir()
    (tmp_path / "3" / "record").write_text("damaged")
    end, lines = run(jobs, 1, 2, 3, 4)
    assert end == SweepEnd(1, 3)
    assert lines == [
        f"[1/4] number 1: failed: no luck with 1 (see {tmp_path}/1/log.txt)",
        "[2/4] number 2: failed: its process was killed by signal 9, perhaps for want of memory "
        f"(see {tmp_path}/2/log.txt)",
        "[3/4] number 3: failed: the record is damaged",
        "[4/4] number 4: found 4",
    ]
    assert (tmp_path / "1" / FAILED).read_text() == "no luck with 1\n"
    assert jobs.seen[0] == (1, None)


def test_a_job_that_is_refused_or_leaves_no_log_stops_no_other(tmp_path: Path) -> None:
    class Refused(Numbers):
        def start(self, job: int) -> Any:
            if job == 1:
                raise RuntimeError("sbatch: error:\nQOSMaxSubmitJobPerUserLimit")
            return Ended(3) if job == 2 else super().start(job)

    end, lines = run(Refused(tmp_path), 1, 2, 3, at_once=3)
    assert end == SweepEnd(1, 2)
    assert lines == [
        "[1/3] number 1: failed: sbatch: error: QOSMaxSubmitJobPerUserLimit",
        "[2/3] number 2: failed: its process ended with code 3",
        "[3/3] number 3: found 3",
    ]
    assert "QOSMaxSubmit" in (tmp_path / "1" / FAILED).read_text()


def test_a_signal_starts_no_more(tmp_path: Path) -> None:
    request = StopRequest()
    request.signal = signal.SIGTERM
    jobs = Numbers(tmp_path)
    end, lines = run(jobs, 1, request=request)
    assert (end, jobs.started) == (SweepEnd(0, 0, signal.SIGTERM), [])
    assert lines == ["interrupted; the same command goes on from here"]


def test_a_process_gets_its_request_threads_and_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    def start(work: str, request: object, **options: Any) -> Ended:
        given.update(options, work=work, request=request)
        os.write(options["stdout"].fileno(), b"said\n")
        return Ended()

    monkeypatch.setattr(jobs_module, "start", start)
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / FAILED).write_text("no luck\n")
    start_job(folder, "some.work", {"a": 1}, threads=3)
    assert (given["work"], given["request"]) == ("some.work", {"a": 1})
    assert given["environment"]["OMP_NUM_THREADS"] == "3"
    assert given["environment"]["PYTHONSAFEPATH"] == "1"
    assert not (folder / FAILED).exists()
    start_job(folder, "some.work", {}, threads=None)
    assert given["environment"].get("OMP_NUM_THREADS") == os.environ.get("OMP_NUM_THREADS")
    assert (folder / LOG).read_text() == "said\nsaid\n"


def test_an_answer_ends_the_process_with_what_became_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(jobs_module, "read_request", lambda orphaned: {"a": 1})
    asked: list[object] = []

    def done(request: object) -> int:
        asked.append(request)
        return 0

    answer(done)
    assert asked == [{"a": 1}]
    with pytest.raises(SystemExit) as ended:
        answer(lambda request: signal.SIGTERM)
    assert ended.value.code == 128 + signal.SIGTERM
    for problem, line in (
        (ValueError("no\n luck"), "error: no luck"),
        (MemoryError(), "error: MemoryError"),
    ):

        def fails(request: object, problem: Exception = problem) -> int:
            raise problem

        with pytest.raises(SystemExit) as ended:
            answer(fails)
        assert ended.value.code == line
