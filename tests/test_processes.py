"""What tests start can be interrupted wherever they run, and ends with them."""

import contextlib
import signal
import sys
import time
from pathlib import Path

import pytest
from processes import started, usual_signals

SLEEPS = """
import signal, subprocess, sys
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler, flush=True)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
child.wait()
"""


def test_in_the_background_of_a_script_signals_are_the_usual_ones() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell sets it there
    try:
        with usual_signals():
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        with started([sys.executable, "-c", SLEEPS], stdout=-1) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "True\n"
    finally:
        signal.signal(signal.SIGINT, before)


class FailedError(Exception):
    """What a failing test raises."""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_what_a_test_started_ends_with_it_whatever_happens() -> None:
    with (
        contextlib.suppress(FailedError),
        started([sys.executable, "-c", SLEEPS], stdout=-1) as process,
    ):
        assert process.stdout is not None
        process.stdout.readline()
        child = Path("/proc", process.stdout.readline().strip())
        assert child.exists()
        raise FailedError
    assert process.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 10
    while runs(child):
        assert time.monotonic() < deadline, "it goes on"
        time.sleep(0.01)


def runs(process: Path) -> bool:
    """Whether it has not ended; one whose end nobody has asked for is still listed."""
    try:
        return (process / "stat").read_text().split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
