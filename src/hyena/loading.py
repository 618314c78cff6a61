"""Ctrl-C while the program `hyena` loads PyTorch, which is before a command could catch it."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType


@contextmanager
def quiet_interruption() -> Iterator[None]:
    """Within it Ctrl-C ends the program `hyena` with one line and exit code 130.

    At once, since an exception can be lost in the libraries that are loading. Of other programs,
    which import hyena, it changes nothing.
    """
    if not _is_the_program():
        yield
        return
    former = signal.signal(signal.SIGINT, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)


def _is_the_program() -> bool:
    """Whether this is ``hyena`` or ``python -m hyena``, which as yet is called "-m"."""
    name = sys.argv[0] if sys.argv else ""
    named = Path(name).stem == "hyena" or (name == "-m" and "hyena" in sys.orig_argv)
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return named and usual and threading.current_thread() is threading.main_thread()


def _end(_number: int, _frame: FrameType | None) -> None:
    os.write(2, b"interrupted\n")
    os._exit(128 + signal.SIGINT)
