"""Hostile input in a short form of ``make fuzz``, and that the script itself finds faults."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import api_calls
import fuzz
import hostile
import pytest
import torch
from case_outcome import Outcome, called, commanded

SCRIPT = Path(fuzz.__file__)


@pytest.mark.parametrize("name", api_calls.TARGETS)
def test_a_call_without_hostile_arguments_is_taken(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # some write a file
    function, arguments = api_calls.TARGETS[name]()
    outcome = api_calls.called_as(name, function, arguments, gradients=True)
    assert outcome.kind == "taken" or "absent" in outcome.detail, outcome


def test_hostile_input_finds_nothing_else_than_refusals(tmp_path: Path) -> None:
    out = tmp_path / "faults.json"
    words = ["--share=0.005", "--jobs=1", "--out", str(out)]
    done = subprocess.run([sys.executable, str(SCRIPT), *words], capture_output=True, text=True)
    assert out.is_file(), done.stderr
    reports = fuzz.read(out)
    assert {kind: report.cases for kind, report in reports.items()} == {
        "files": 25,
        "words": 18,
        "calls": 75,
    }
    faults = [
        case for report in reports.values() for case in report.faults if case["kind"] != "outside"
    ]
    assert (done.returncode, faults) == (0, [])


def test_two_builds_are_shown_side_by_side(tmp_path: Path) -> None:
    words = ["--share=0.001", "--kinds=calls", "--jobs=1", f"--against={sys.executable}"]
    done = subprocess.run([sys.executable, str(SCRIPT), *words], capture_output=True, text=True)
    rows = [line.split("|")[2:] for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [row[0].strip() for row in rows] == ["input", "calls", "all", "calls", "all"]
    assert rows[1] == rows[3]


def test_a_place_is_the_innermost_of_hyena_and_says_whether_it_raises() -> None:
    import hyena

    refused = called(lambda: hyena.ModelConfig(width=0))
    assert (refused.kind, refused.where) == (
        "refused",
        "ValueError at arguments.py:check_whole",
    )
    attribute = called(lambda: hyena.LanguageModel(None))  # type: ignore[arg-type]
    assert attribute.kind in ("refused", "traceback")
    assert called(lambda: [][0]).kind == "traceback"


def test_what_another_library_says_of_an_argument_is_no_fault_and_of_anything_else_is() -> None:
    def outside(function: Callable[..., object], **given: object) -> str:
        return called(lambda: function(*given.values()), given).kind

    assert outside(int, text="xyz") == "outside"
    assert outside(lambda dtype: torch.empty(2, dtype=dtype), dtype=3) == "outside"
    assert outside(os.fspath, path=None) == "outside"
    assert outside(lambda x: x < 3, x="xyz") == "foreign"
    assert outside(lambda x: torch.zeros(2) + x, x=torch.zeros(3)) == "foreign"


def test_an_exception_out_of_a_command_is_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(config: object) -> None:
        raise KeyError("bug")

    monkeypatch.setattr("hyena.cli.info.run", run)
    assert commanded(["info"])[0].kind == "traceback"
    assert commanded(["info", "--batch=0"])[0].kind == "refused"


@pytest.mark.parametrize("end", ["crash", "large", "slow", "taken"])
def test_crashes_and_long_runs_are_counted_and_the_rest_goes_on(
    end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def draw(kind: str, number: int, seed: int, sound: Path) -> tuple[str, Callable[[], Outcome]]:
        def call() -> Outcome:
            if number == 1 and end == "crash":
                os.kill(os.getpid(), signal.SIGKILL)
            if number == 1 and end == "slow":
                time.sleep(60)
            if number == 1 and end == "large":
                bytearray(b"x") * (1 << 28)
            return Outcome("taken")

        return "a case", call

    monkeypatch.setattr(fuzz, "draw", draw)
    monkeypatch.setattr(fuzz, "SECONDS", 1.0 if end == "slow" else 60.0)  # other calls take moments
    monkeypatch.setattr(fuzz, "LARGE", 1 << 27)
    report = fuzz.run("calls", [0, 1, 2], 0, 1, tmp_path)
    assert report.cases == 3
    assert report.counts["crash" if end == "large" else end] >= 1
    assert [(case["number"], case["what"]) for case in report.faults] == (
        [] if end == "taken" else [(1, "a case")]
    )


def test_damage_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    results = []
    for _ in range(2):
        file = tmp_path / "x.json"
        file.write_text('{"a": [1, 2], "b": {"c": "text"}}')
        how = hostile.damage(random.Random(3), file, [file])
        results.append((how, file.read_bytes()))
    assert results[0] == results[1]
