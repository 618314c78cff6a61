"""Processes that do one thing for this one, and signals that stop any of them.

A process that was begun by `start` finds what it is to do by `read_request`. It has a session of
its own, so that Ctrl-C reaches the first process alone, which then says when the others stop. It
ends by itself when the first one is gone, however that happened, since the pipe to it closes.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import IO, Any


def start(
    work: str,
    request: object,
    *,
    stdout: IO[bytes] | int,
    stderr: IO[bytes],
    environment: Mapping[str, str],
) -> subprocess.Popen[bytes]:
    """Starts a process for a function without arguments, such as "hyena.training.run.work", and
    hands it a request, of JSON's types."""
    module, _, function = work.rpartition(".")
    process = subprocess.Popen(
        [sys.executable, "-c", f"from {module} import {function}; {function}()"],
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=stderr,
        env=environment,
        start_new_session=True,
    )
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # of a process that died at once
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()
    return process


def read_request(orphaned: Callable[[], object]) -> Any:
    """What this process is to do; ``orphaned`` is called when the one that started it is gone.

    Raises: SystemExit if it is gone already.
    """
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(0, 65536)
        if not piece:
            raise SystemExit(1)
        line += piece

    def watch() -> None:
        os.read(0, 1)  # nothing more is ever sent: it returns when the other one is gone
        orphaned()

    threading.Thread(target=watch, daemon=True).start()
    return json.loads(line)


class StopRequest:
    """Set by the first SIGINT or SIGTERM; ``signal`` is its number, 0 until then."""

    def __init__(self) -> None:
        self.signal = 0


@contextlib.contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Within it, the first SIGINT or SIGTERM is noted and the second raises KeyboardInterrupt.

    The former handlers are put back at the end. A signal that is ignored stays so. Outside the main
    thread Python allows no handlers, so none are set and nothing is ever noted.
    """
    request = StopRequest()

    def handle(number: int, _frame: FrameType | None) -> None:
        if request.signal:
            raise KeyboardInterrupt
        request.signal = number

    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    heeded = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) != signal.SIG_IGN]
    former = {number: signal.signal(number, handle) for number in heeded}
    try:
        yield request
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
