"""Stopping a run from outside: the first signal asks, the second insists."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """Set by the first SIGINT or SIGTERM; ``signal`` is its number, 0 until then."""

    def __init__(self) -> None:
        self.signal = 0


@contextmanager
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
