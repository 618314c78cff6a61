"""A further process of a data-parallel run, started by `hyena.training.launch`."""

from __future__ import annotations

import json
import os
import sys
import threading

from hyena.files.records import from_plain
from hyena.training.config import TrainConfig


def main() -> None:
    """Read the configuration from standard input and train."""
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(0, 65536)
        if not piece:
            os._exit(1)
        line += piece
    threading.Thread(target=_end_with_parent, daemon=True).start()

    from hyena.training.run import train_process

    status = 0
    try:
        train_process(from_plain(TrainConfig, json.loads(line)), _report_ready)
    except Exception as error:
        print(error, file=sys.stderr)
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    # No interpreter shutdown: gloo's threads sometimes abort in it.
    os._exit(status)


def _report_ready() -> None:
    os.write(1, b".")
    os.dup2(2, 1)  # nobody reads the pipe any more


def _end_with_parent() -> None:
    os.read(0, 1)  # nothing more is ever sent: it returns when the parent is gone
    os._exit(1)


if __name__ == "__main__":
    main()
