"""Two processes that go on with the same training at once."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

# Trains by the function `resume` of the code before it, and stops in its first step until told.
_TRAIN = """
import sys
from hyena.training import loop

backward = loop.backward


def paused(*arguments):
    loop.backward = backward
    print("training", flush=True)
    sys.stdin.readline()
    return backward(*arguments)


loop.backward = paused
print("ready", flush=True)
sys.stdin.readline()
try:
    resume()
    print("done", flush=True)
except RuntimeError as error:
    print(error, flush=True)
"""


def resume_twice(code: str, *arguments: object, seconds: float = 240) -> str:
    """Has two processes resume while neither has finished, and the one that may do so finish.

    Args: code that defines ``resume``, and its ``sys.argv``; after how long both are killed.

    Returns: what the other one said.
    """
    here = Path(__file__).parent
    search = [str(here / part) for part in ("training", "experiments")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(search), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code + _TRAIN, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        for _ in range(2)
    ]
    clocks = [threading.Timer(seconds, process.kill) for process in processes]
    try:
        for clock in clocks:
            clock.start()
        for process in processes:
            assert _line(process) == "ready"
        for process in processes:
            _go_on(process)
        said = [_line(process) for process in processes]
        assert said.count("training") == 1, said
        winner = said.index("training")
        _go_on(processes[winner])
        assert _line(processes[winner]) == "done"
        assert [process.wait(seconds) for process in processes] == [0, 0]
        return said[1 - winner]
    finally:
        for clock, process in zip(clocks, processes, strict=True):
            clock.cancel()
            process.kill()
            process.communicate()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def _go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
