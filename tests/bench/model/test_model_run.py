"""How a case of whole models is measured: who is asked in which order, and what becomes of it."""

import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

import hyena
from hyena.bench.model import work
from hyena.bench.model.cases import Case, Work
from hyena.bench.model.run import ask, measure, run
from hyena.machine import convolution

WORK = Work("forward", 64, {"width": 8, "layers": 1, "vocab_size": 16}, vocabulary=16)
CASE = Case("a case", {"one": WORK, "other": WORK}, ("one",), repeats=2)
OLD = "/old/python"


class Answers:
    """A stand-in for processes; seconds and bytes count up."""

    def __init__(self, **changes: Any) -> None:
        self.asked: list[tuple[str, Mapping[str, Any]]] = []
        self.changes = changes

    def __call__(self, python: str, request: Mapping[str, Any]) -> dict[str, Any]:
        self.asked.append((python, request))
        n = len(self.asked)
        found = {"seconds": [100.0, float(n)], "peak": 1000 + n, "before": 100, "numbers": [1.0]}
        found["build"] = {"hyena": "0.0" if python == OLD else "0.1"}
        return {**found, **(self.changes if python == OLD else {})}


def test_contenders_take_turns_in_processes_of_their_own() -> None:
    answers = Answers()
    result = measure(CASE, threads=3, old=OLD, ask=answers)
    builds = [python == OLD for python, _ in answers.asked]
    assert len(builds) == 6
    assert sum(builds) == 2
    assert builds[:3] != builds[3:]  # who begins changes
    assert {request["threads"] for _, request in answers.asked} == {3}
    assert {python for python, _ in answers.asked} == {OLD, sys.executable}
    assert set(result["times"]) == {"one", "other", "one_today"}
    assert result["builds"] == {"this": {"hyena": "0.1"}, "older": {"hyena": "0.0"}}
    assert len(measure(CASE, threads=1, old=OLD, repeats=5, ask=answers)["times"]) == 3
    assert len(answers.asked) == 6 + 15


def test_bfloat16_that_the_processor_has_no_instructions_for_is_left_out() -> None:
    answers = Answers()
    narrow = {"cast": replace(WORK, bf16=True), "weights": replace(WORK, dtype="bfloat16")}
    case = replace(CASE, works={"one": WORK, **narrow}, today=("one", "cast"))
    result = measure(case, threads=1, old=OLD, bfloat16=False, ask=answers)
    assert set(result["times"]) == {"one", "one_today"}
    assert set(result["skipped"]) == {"cast", "cast_today", "weights"}
    assert "no instructions for bfloat16" in result["skipped"]["weights"]
    assert not any(request["bf16"] for _, request in answers.asked)
    alone = replace(case, works=narrow, today=())  # then it is what the case is for
    assert set(measure(alone, threads=1, bfloat16=False, ask=answers)["times"]) == set(narrow)


def test_warm_calls_are_not_timed_and_memory_is_the_median() -> None:
    case = Case("a", {"one": Work("train", 64, calls=2, warm=1)}, repeats=3)
    result = measure(case, threads=1, ask=Answers())
    assert result["times"]["one"] == {
        "median": 2.0,
        "lower": 1.5,
        "upper": 2.5,
        "samples": 3,
        "calls": 1,
    }
    assert result["peak"] == {"one": 1002}
    assert result["added"] == {"one": 902}


def test_memory_that_the_system_does_not_tell() -> None:
    case = Case("a", {"one": WORK}, ("one",))
    result = measure(case, threads=1, old=OLD, ask=Answers(before=None))
    assert result["added"]["one_today"] is None
    assert result["added"]["one"] > 0


def test_one_that_fails_is_left_out_and_asked_no_more() -> None:
    answers = Answers(failed="RuntimeError: not enough memory")
    result = measure(CASE, threads=1, old=OLD, ask=answers)
    assert result["skipped"] == {"one_today": "RuntimeError: not enough memory"}
    assert set(result["times"]) == {"one", "other"}
    assert sum(python == OLD for python, _ in answers.asked) == 1


def test_nothing_is_reported_if_all_fail() -> None:
    result = measure(CASE, threads=1, ask=lambda *_: {"failed": "no"})
    assert result["failed"] == "no"
    assert "times" not in result


@pytest.mark.parametrize("numbers", [[1.01], [1.0, 1.0], [float("nan")]])
def test_nor_if_the_builds_compute_otherwise(numbers: list[float]) -> None:
    result = measure(CASE, threads=1, old=OLD, ask=Answers(numbers=numbers))
    assert result["failed"].startswith("one: its numbers differ from the older build's by ")
    assert "times" not in measure(CASE, threads=1, old=OLD, ask=Answers(numbers=numbers))
    assert "times" in measure(CASE, threads=1, old=OLD, ask=Answers(numbers=[1.0001]))


def test_a_process_answers() -> None:
    case = Case("a", {"one": WORK}, repeats=1)
    result = measure(case, threads=1)
    assert result["skipped"] == {}
    assert 2**26 < result["peak"]["one"] < 2**31  # not that of this process, which may be larger
    assert 0 <= result["added"]["one"] < 2**28
    assert result["builds"] == {"this": work.build()}


def test_a_build_says_what_tells_it_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = work.build()
    assert found["hyena"] == hyena.__version__
    assert found["torch"] == torch.__version__
    assert found["kernel"] == convolution()["kernel"]
    package = tmp_path / "hyena"
    shutil.copytree(Path(hyena.__file__).parent, package, ignore=shutil.ignore_patterns("*.so"))
    monkeypatch.setattr(work, "_PACKAGE", package)
    copied = work.build()
    assert copied["sources"] == found["sources"]
    assert "commit" not in copied
    with (package / "model" / "block.py").open("a") as file:
        file.write("# changed")
    assert work.build()["sources"] != found["sources"]


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_build_in_a_tracked_folder_says_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "src" / "hyena"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    monkeypatch.setattr(work, "_PACKAGE", package)
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    assert "commit" not in work.build()  # installed in a repository of something else
    subprocess.run([*git, "add", "src"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "second"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    commit = work.build()["commit"]
    assert len(commit) >= 7
    assert head.stdout.startswith(commit)
    (package / "__init__.py").write_text("# changed")
    assert work.build()["commit"] == f"{commit}-dirty"


def test_what_does_not_fit_into_memory_fails_alone() -> None:
    work = Work("forward", 1 << 28, WORK.model, batch=1 << 12, vocabulary=16)
    assert "alloc" in measure(Case("a", {"one": work}, repeats=1), threads=1)["failed"]


def test_a_process_that_ends_without_an_answer(tmp_path: Any) -> None:
    for script, cause in (("exit 3", "3"), ("kill -9 $$", "killed by signal 9, perhaps for")):
        python = tmp_path / "python"
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(0o755)
        assert ask(str(python), {})["failed"].startswith(f"its process ended: {cause}")


def test_a_system_without_proc_counts_the_peak_or_says_that_it_cannot(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert work.peak() > 1 << 20
    monkeypatch.setattr(work, "_STATUS", tmp_path / "missing")
    assert work.peak() > 1 << 20
    monkeypatch.setitem(sys.modules, "resource", None)
    with pytest.raises(RuntimeError, match=r"this system has neither; measure them on Linux or"):
        work.peak()


def older(**changes: str) -> Answers:
    """Answers of an older build that says this of itself."""
    return Answers(build={"hyena": "0.0", "sources": "abc", **changes})


def test_a_folder_goes_on_beside_the_same_older_build_alone(tmp_path: Path) -> None:
    lines: list[str] = []

    def go(case: Case, old: str | None, answers: Answers) -> None:
        run([case], tmp_path, threads=1, old=old, say=lines.append, ask=answers)

    other = Case("another case", CASE.works, ("one",), repeats=1)
    go(CASE, OLD, older())
    message = "holds results beside another older build: its sources is def now and was abc there"
    with pytest.raises(ValueError, match=message):
        go(other, OLD, older(sources="def"))
    with pytest.raises(ValueError, match=message):  # nothing is left to measure, but to report
        go(CASE, OLD, older(sources="def"))
    assert len(lines) == 1
    go(other, OLD, older(commit="of a checkout"))
    assert lines[1].startswith("another case: one ")
    go(CASE, None, older())
    assert lines[2] == "1 of 1 case is there already"
    with pytest.raises(ValueError, match=f"old: {OLD} does not say which build it is: no"):
        go(CASE, OLD, Answers(failed="no"))


def test_an_older_build_is_not_asked_twice_without_need(tmp_path: Path) -> None:
    answers = Answers()
    run([CASE], tmp_path, threads=1, old=OLD, say=lambda line: None, ask=answers)
    assert {request["work"] for _, request in answers.asked} == {"forward"}


def test_a_build_says_which_it_is_without_any_work() -> None:
    found = ask(sys.executable, {**asdict(Work("build", 0)), "threads": 1})
    assert found["build"] == work.build()
