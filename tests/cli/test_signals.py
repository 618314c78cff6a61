"""Ctrl-C and SIGTERM at any moment: one line, the exit code of the signal, and no process left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import started

from hyena.cli import main
from hyena.training.processes import stop_on_signal

Output = pytest.CaptureFixture[str]


def test_a_command_is_ended_by_sigterm(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    cleared: list[bool] = []

    def run(config: object) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            cleared.append(True)

    monkeypatch.setattr("hyena.cli.info.run", run)
    before = signal.getsignal(signal.SIGTERM)
    assert main(["info"]) == 128 + signal.SIGTERM
    assert cleared == [True]
    assert capsys.readouterr().err == "terminated\n"
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_is_ignored_stays_ignored(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(config: object) -> None:
        with stop_on_signal() as request:  # as of a training run
            signal.raise_signal(number)
        assert request.signal == 0
        signal.raise_signal(number)

    monkeypatch.setattr("hyena.cli.info.run", run)
    before = signal.signal(number, signal.SIG_IGN)
    try:
        assert main(["info"]) == 0
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_bench_ends_with_its_worker(number: signal.Signals, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "hyena", "bench", "goals", "--out", str(tmp_path), "--threads=1"]
    with started(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        for _ in range(1200):  # until the worker is there, which measures the machine first
            if (tmp_path / "parts/setting.json").is_file():
                break
            time.sleep(0.05)
        time.sleep(0.2)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)  # when the worker too has closed the pipe
    said = {signal.SIGTERM: "terminated\n", signal.SIGINT: "interrupted\n"}
    assert (process.returncode, err) == (128 + number, said[number])


def test_the_worker_of_bench_ends_when_its_parent_is_gone() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hyena.bench.worker", "1"],
        input=b'{"do": "limits", "options": {"seconds": 600}}\n',  # and then the end of its input
        capture_output=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


INTERRUPTED_TORCH = """
import os, signal, time
os.kill(os.getpid(), signal.SIGINT)
time.sleep(60)
"""


def while_loading(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """What Python does with these words if Ctrl-C comes while PyTorch is imported."""
    (folder / "torch.py").write_text(INTERRUPTED_TORCH)
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(
        [sys.executable, *words], env=environment, capture_output=True, text=True, timeout=60
    )


def test_ctrl_c_while_the_program_loads_is_one_line(tmp_path: Path) -> None:
    script = tmp_path / "bin" / "hyena"  # as pip installs it
    script.parent.mkdir()
    script.write_text("import sys\nfrom hyena.cli import main\nsys.exit(main())\n")
    for words in (["-m", "hyena", "info"], [str(script), "info"]):
        done = while_loading(tmp_path, *words)
        assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_ctrl_c_while_another_program_loads_hyena_is_its_own(tmp_path: Path) -> None:
    program = "try: import hyena.model\nexcept KeyboardInterrupt: print('caught')"
    done = while_loading(tmp_path, "-c", program)
    assert (done.stdout, done.stderr) == ("caught\n", "")
