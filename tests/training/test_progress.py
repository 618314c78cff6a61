"""What a run shows."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tiny_runs import MakeConfig

from hyena.cli.train import run
from hyena.training import TrainConfig, TrainResult, train
from hyena.training.metrics import Progress, Record

Output = pytest.CaptureFixture[str]


def record(step: int, **more: float) -> Record:
    return {"step": step, "loss": 2.5, "lr": 1e-3, "tokens_per_s": 12345.6, **more}


def test_a_line_every_few_seconds_and_at_each_evaluation(capsys: Output) -> None:
    reported: list[tuple[int, int]] = []
    progress = Progress(0, 10, lambda *steps: reported.append(steps), interval=1e9)
    for step in range(1, 8):
        progress.update(record(step, **({"validation_loss": 3.25} if step == 5 else {})))
    progress.close()
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["step 1/10", "step 5/10", "step 7/10"]
    assert lines[0] == "step 1/10  loss 2.5000  12,346 tokens/s  0:00:00 left"
    assert "validation 3.2500" in lines[1]
    assert reported == [(step, 10) for step in range(1, 8)]


def test_a_message_comes_after_the_record_before_it(capsys: Output) -> None:
    progress = Progress(0, 10, interval=1e9)
    for step in (1, 2, 3):
        progress.update(record(step))
    progress.message("stopped")
    progress.close()
    lines = [line.split("  ")[0] for line in capsys.readouterr().err.splitlines()]
    assert lines == ["step 1/10", "step 3/10", "stopped"]


def test_the_last_step_is_printed_once(capsys: Output) -> None:
    progress = Progress(9, 10)
    progress.update(record(10))
    progress.close()
    assert capsys.readouterr().err.count("step 10/10") == 1


def test_a_run_prints_to_standard_error_only(
    make: MakeConfig, capfd: pytest.CaptureFixture[str]
) -> None:
    train(make(stop_after=3))
    train(make(resume=True))
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "step 6/6" in shown.err
    assert "resuming from" in shown.err


def test_a_terminal_has_a_bar_below_the_lines(
    make: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", terminal)
    assert run(make()) == 0
    shown = terminal.getvalue()
    assert "6 steps" in shown
    assert "step 6/6  loss" in shown
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1


def test_of_the_processes_of_a_launcher_the_first_alone_has_a_bar(
    make: MakeConfig, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    units: list[str] = []

    @contextmanager
    def bar(unit: str) -> Iterator[None]:
        units.append(unit)
        yield

    def stopped(config: TrainConfig, progress: object) -> TrainResult:
        return TrainResult(config.out, 1, 2, 0, int(os.environ["RANK"]))

    monkeypatch.setattr("hyena.cli.train.bar", bar)
    monkeypatch.setattr("hyena.cli.train.train", stopped)
    said = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        assert run(make()) == 0
        said.append(capsys.readouterr().out)
    assert units == ["steps"]
    assert said[1] == ""
    # Not "hyena train", which would start one process.
    assert "stopped after step 1 of 2; go on with: the same launcher and --config " in said[0]
