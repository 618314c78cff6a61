"""Processes that do one thing for this one: `start`, and in them `read_request`.

Such a process has a session of its own, so that Ctrl-C reaches the first process alone, which then
says when the others stop. It ends by itself when the first one is gone, however that happened,
since the pipe to it closes.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
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
    """What this process is to do. Args: what to do when the one that started it is gone.

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
