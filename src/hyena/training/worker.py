"""A further process of a data-parallel run, started by `hyena.training.launch`."""

from __future__ import annotations

import os
import sys

from hyena.files.records import from_plain
from hyena.training.child import read_request
from hyena.training.config import TrainConfig


def main() -> None:
    """Read the configuration from standard input and train."""
    request = read_request(orphaned=lambda: os._exit(1))

    from hyena.training.run import train_process

    status = 0
    try:
        train_process(from_plain(TrainConfig, request), _report_ready)
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


if __name__ == "__main__":
    main()
