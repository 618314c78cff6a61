"""What a run shows."""

import io

import pytest
from tiny_runs import MakeConfig

from hyena.training import train
from hyena.training.metrics import Progress, Record


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def record(step: int, **more: float) -> Record:
    return {"step": step, "loss": 2.5, "lr": 1e-3, "tokens_per_s": 12345.6, **more}


def test_plain_lines_elsewhere_than_in_a_terminal() -> None:
    stream = io.StringIO()
    progress = Progress(0, 10, stream, interval=1e9)
    for step in range(1, 8):
        progress.update(record(step, **({"validation_loss": 3.25} if step == 5 else {})))
    progress.close()
    lines = stream.getvalue().splitlines()
    assert [line.split("  ")[0] for line in lines] == ["step 1/10", "step 5/10", "step 7/10"]
    assert lines[0].startswith("step 1/10  loss 2.5000  12,346 tokens/s  0:00 left")
    assert "validation 3.2500" in lines[1]


def test_a_message_comes_after_the_record_before_it() -> None:
    stream = io.StringIO()
    progress = Progress(0, 10, stream, interval=1e9)
    for step in (1, 2, 3):
        progress.update(record(step))
    progress.message("stopped")
    progress.close()
    lines = [line.split("  ")[0] for line in stream.getvalue().splitlines()]
    assert lines == ["step 1/10", "step 3/10", "stopped"]


def test_the_last_step_is_printed_once() -> None:
    stream = io.StringIO()
    progress = Progress(9, 10, stream)
    progress.update(record(10))
    progress.close()
    assert stream.getvalue().count("step 10/10") == 1


def test_a_line_that_is_redrawn_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    stream = Terminal()
    progress = Progress(0, 10, stream)
    progress.update(record(1, validation_loss=3.25))
    progress.message("a line [that] stays")
    progress.update(record(10))
    progress.close()
    shown = stream.getvalue()
    assert "10/10" in shown
    assert "loss 2.5000" in shown
    assert "validation 3.2500" in shown
    assert "12,346 tokens/s" in shown
    assert "a line [that] stays" in shown
    lines = shown.splitlines()
    assert [line.split("  ")[0] for line in lines if line] == [
        "step 1/10",
        "a line [that] stays",
        "step 10/10",
    ]
    assert max(map(len, lines)) == 119


def test_a_run_prints_to_standard_error_only(
    make: MakeConfig, capfd: pytest.CaptureFixture[str]
) -> None:
    train(make(stop_after=3))
    train(make(resume=True))
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "step 6/6" in shown.err
    assert "resuming from" in shown.err
