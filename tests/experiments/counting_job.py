"""What a job does in a test: it imports nothing that takes long."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path


def work() -> None:
    """Counts to three, and goes on from where it was; if asked, it waits at one for a signal."""
    request = json.loads(sys.stdin.readline())
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    folder = Path(request["folder"])
    print("threads", os.environ.get("OMP_NUM_THREADS"), flush=True)
    if request["number"] < 0:
        raise SystemExit("error: a number below zero")
    counter = folder / "count"
    while (number := int(counter.read_text()) if counter.exists() else 0) < 3:
        counter.write_text(str(number + 1))
        if number == 1 and request.get("waits") and not (folder / "go").exists():
            (folder / "waiting").touch()
            while not stopped:
                time.sleep(0.01)
            (folder / "saved").touch()
            raise SystemExit(128 + stopped[0])
    (folder / "record").write_text(str(request["number"]))
