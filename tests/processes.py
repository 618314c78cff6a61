"""Processes that tests start: with the usual signals, and ended with all they started."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from typing import Any


@contextlib.contextmanager
def started(words: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process in a session of its own, which is killed with it at the end, whatever happens.

    Where the tests run in the background of a script, SIGINT is ignored and what they start would
    ignore it too.
    """
    with usual_signals():
        process = subprocess.Popen(words, text=True, start_new_session=True, **options)
    with process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def usual_signals() -> Iterator[None]:
    """Within it SIGINT and SIGTERM do what they do in a program of the foreground."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    former = {number: signal.signal(number, handler) for number, handler in usual.items()}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
