"""Rows in processes of their own, kept in a folder; in most tests the process only pretends."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_results import result, timing

from hyena.bench import folder, memory, processes
from hyena.bench.convolution.cases import Case
from hyena.bench.convolution.report import report
from hyena.bench.convolution.run import need, run
from hyena.bench.folder import outcome, read
from hyena.bench.processes import Worker

A = Case("quick", "gated_conv", "forward", "default", 4, 16, ("ours", "public"))
B = replace(A, length=32)
TUNED = replace(A, allocator="tuned", contenders=("ours",))
Request = dict[str, Any]


class Pretended:
    """What `Worker` is to the runner; answers come from a function."""

    started: list[str]
    requests: list[Request]

    def __init__(self, answer: Callable[[Request], Request]) -> None:
        self.started, self.requests, self.answer = [], [], answer

    def __call__(self, allocator: str, threads: int) -> "Pretended":
        self.started.append(allocator)
        return self

    def ask(self, request: Request) -> Request:
        if request["do"] == "limits":
            return {"copy": 1e9, "triad": 1e9}
        self.requests.append(request)
        return self.answer(request)

    def close(self) -> None:
        pass


def usual(request: Request) -> Request:
    if request["do"] == "memory":
        return {"call": 1, "process": 2}
    made = result(Case(**request["cell"]))
    return {"errors": made["errors"], "times": made["times"]}


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Pretended:
    pretended = Pretended(usual)
    monkeypatch.setattr(processes, "Worker", pretended)
    monkeypatch.setattr("hyena.bench.convolution.run.why_not_tuned", lambda: "")
    return pretended


def go(cells: list[Case], out: Path, **more: Any) -> tuple[Any, list[str]]:
    lines: list[str] = []
    return run(cells, out, threads=1, say=lines.append, **more), lines


def test_each_row_is_a_file_and_each_allocator_a_process(worker: Pretended, tmp_path: Path) -> None:
    seen: list[int] = []
    found, lines = go([A, TUNED, B], tmp_path, progress=seen.append)
    assert worker.started == ["default", "tuned"]
    assert [request["cell"]["length"] for request in worker.requests] == [16, 32, 16]
    assert found == read(tmp_path)
    assert set(found) == {A.key, B.key, TUNED.key}
    assert found[TUNED.key]["modes"] == {"ours": "b"}
    assert seen == [0, 1, 2, 3]
    assert lines[0] == (
        "gated_conv forward, D=4, L=16, default allocator: ours 16 ms, public 128 ms"
    )


def test_what_is_there_is_not_measured_again(worker: Pretended, tmp_path: Path) -> None:
    go([A], tmp_path)
    found, lines = go([A, B], tmp_path)
    assert [request["cell"]["length"] for request in worker.requests] == [16, 32]
    assert lines[0] == "1 of 2 cases is there already"
    assert set(found) == {A.key, B.key}


def test_a_row_with_fewer_contenders_is_not_done(worker: Pretended, tmp_path: Path) -> None:
    go([replace(A, contenders=("ours",))], tmp_path)
    go([A], tmp_path)
    assert len(worker.requests) == 2


def test_memory_is_measured_in_a_fresh_process(worker: Pretended, tmp_path: Path) -> None:
    found, _ = go([replace(A, memory=("ours", "public"))], tmp_path)
    assert worker.started == ["default"] * 3
    assert [request["do"] for request in worker.requests] == ["times", "memory", "memory"]
    assert found[A.key]["memory"]["public"] == {"call": 1, "process": 2}


def test_memory_of_another_device_needs_no_fresh_process(
    worker: Pretended, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.accelerator.get_memory_info", lambda: (1 << 30, 1 << 30))
    found, lines = go([replace(A, memory=("ours",), device="cuda")], tmp_path)
    assert worker.started == ["default"]
    assert [request["cell"]["device"] for request in worker.requests] == ["cuda", "cuda"]
    assert found[A.key]["cell"]["device"] == "cuda"
    assert lines[0].startswith("gated_conv forward, D=4, L=16, cuda: ours ")


def test_what_failed_is_told_and_tried_again(worker: Pretended, tmp_path: Path) -> None:
    worker.answer = lambda request: {"failed": "why", "ended": True}
    found, lines = go([A, B], tmp_path)
    assert found[A.key]["failed"] == "why"
    assert "ended" not in found[A.key]
    assert lines[-1].endswith("default allocator: why")
    assert worker.started == ["default"] * 2  # a new one for the next row
    worker.answer = usual
    found, _ = go([A], tmp_path)
    assert "failed" not in found[A.key]


def test_an_interruption_keeps_what_is_done(worker: Pretended, tmp_path: Path) -> None:
    def interrupted(request: Request) -> Request:
        if request["cell"]["length"] == 32:
            raise KeyboardInterrupt
        return usual(request)

    worker.answer = interrupted
    with pytest.raises(KeyboardInterrupt):
        go([A, B], tmp_path)
    assert set(read(tmp_path)) == {A.key}
    assert not list(tmp_path.rglob("*.part"))


def test_results_of_another_setting_are_refused(worker: Pretended, tmp_path: Path) -> None:
    setting = {"threads": 1, "kernel": "none"}
    folder.open_folder(tmp_path, setting)
    go([A], tmp_path)
    with pytest.raises(ValueError, match="another setting: threads is 2 now and was 1 there"):
        folder.open_folder(tmp_path, {**setting, "threads": 2})
    folder.clear(tmp_path)
    folder.open_folder(tmp_path, {**setting, "threads": 2})
    assert read(tmp_path) == {}


def test_a_damaged_file_is_named(worker: Pretended, tmp_path: Path) -> None:
    go([A], tmp_path)
    (file,) = (tmp_path / folder.CELLS).glob("*.json")
    file.write_text("{")
    with pytest.raises(ValueError, match=r"L16-default\.json is damaged: .*; remove it"):
        read(tmp_path)


def test_the_budget_is_the_rows_own_or_the_one_given(worker: Pretended, tmp_path: Path) -> None:
    go([A], tmp_path / "a")
    go([A], tmp_path / "b", seconds=9.0, repeats=3)
    assert [request["options"] for request in worker.requests] == [
        {"seconds": A.seconds, "repeats": 100},
        {"seconds": 9.0, "repeats": 3},
    ]


def test_a_baseline_that_is_wrong_is_left_out_and_named(worker: Pretended, tmp_path: Path) -> None:
    def answer(request: Request) -> Request:
        found = usual(request)
        if request["do"] == "times":
            del found["times"]["public"]
            found["skipped"] = {"public": "y differs from float64"}
        return found

    worker.answer = answer
    case = replace(A, memory=("ours", "public"))
    found, lines = go([case], tmp_path)
    assert found[A.key]["skipped"] == {"public": "y differs from float64"}
    assert set(found[A.key]["memory"]) == {"ours"}
    assert lines[0].endswith(": ours 16 ms, public left out")
    text = report(found, {}, {})
    assert f"- public recipe, {A.key}: y differs from float64\n" in text
    assert "| left out |" in text
    assert go([case], tmp_path)[1] == ["1 of 1 case is there already"]


def test_what_would_try_the_patience_is_left_out(worker: Pretended, tmp_path: Path) -> None:
    def answer(request: Request) -> Request:
        times = {"ours": timing(0.1), "sdpa": timing(2.0)}
        names = request["cell"]["contenders"]
        return {"errors": {}, "times": {name: times[name] for name in names}}

    worker.answer = answer
    cell = replace(A, contenders=("ours", "sdpa"), patience=5.0)
    found, _ = go([replace(cell, length=length) for length in (16, 24, 32, 64)], tmp_path)
    skipped = {value["cell"]["length"]: value["skipped"] for value in found.values()}
    assert skipped[16] == skipped[24] == {}
    expected = "expected to take {} s a call, going by 2 s at L={}"
    assert skipped[32] == {}  # (32 / 24)² · 2 s
    assert skipped[64] == {"sdpa": expected.format(8, 32)}
    assert "sdpa" not in found[replace(cell, length=64).key]["times"]
    # Without patience, as for the goals, nothing is left out.
    found, _ = go([replace(cell, length=128, patience=None)], tmp_path)
    assert found[replace(cell, length=128).key]["skipped"] == {}


def test_what_may_not_fit_is_left_out(
    worker: Pretended, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = replace(A, width=256, length=1 << 20)
    assert need(cell, "public") == 20 * 4 * (1 << 28)
    monkeypatch.setattr(memory, "available", lambda: 16 << 30)
    found, _ = go([cell], tmp_path)
    assert found[cell.key]["skipped"] == {"public": "may need 20.0 GiB, and 16.0 GiB are free"}
    monkeypatch.setattr(memory, "available", lambda: 1 << 30)
    found, _ = go([replace(cell, length=1 << 19)], tmp_path)
    assert found[replace(cell, length=1 << 19).key]["failed"].startswith("every contender was left")


def test_without_a_tuned_allocator_its_rows_say_so(
    worker: Pretended, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyena.bench.convolution.run.why_not_tuned", lambda: "no glibc")
    found, _ = go([TUNED], tmp_path)
    assert found[TUNED.key]["failed"] == "no glibc"
    assert worker.requests == []


def test_an_outcome_in_a_line() -> None:
    errors = replace(A, work="error")
    assert outcome(result(errors)) == "ours differs by 3.0e-07, public differs by 3.0e-07"
    assert outcome({"failed": "why"}) == "why"


def test_a_real_process_measures_answers_and_may_end(tmp_path: Path) -> None:
    process = Worker("tuned", 1)
    try:
        request = {"do": "times", "cell": json.loads(json.dumps(TUNED.__dict__))}
        answer = process.ask({**request, "options": {"seconds": 0.01, "repeats": 1}})
        assert set(answer["times"]) == {"ours"}
        wrong = {**request["cell"], "contenders": ["mamba"]}
        answer = process.ask(
            {"do": "times", "cell": wrong, "options": {"seconds": 1, "repeats": 1}}
        )
        assert answer["failed"].startswith("ValueError: gated_conv has ours, ")
        process._process.kill()
        answer = process.ask(request)
        assert answer["ended"]
        assert "killed by signal 9" in answer["failed"]
    finally:
        process.close()
