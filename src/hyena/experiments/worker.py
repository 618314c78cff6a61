"""A process that runs one cell, given plain, for `hyena.experiments.sweep`.

It saves and ends when the process that started it is gone.
"""

from __future__ import annotations

import os
import signal
import sys

from hyena.experiments.cell import CellConfig
from hyena.experiments.run import run_cell
from hyena.files.records import from_plain
from hyena.training.child import read_request


def main() -> int:
    """Runs the cell. Returns: 0, 1 if it failed, 128 + n if signal n stopped it."""
    request = read_request(orphaned=lambda: os.kill(os.getpid(), signal.SIGTERM))
    try:
        end = run_cell(from_plain(CellConfig, request), say=lambda line: print(line, flush=True))
    except (ValueError, OSError, RuntimeError, ImportError, MemoryError) as problem:
        message = " ".join(str(problem).split()) or type(problem).__name__
        print(f"error: {message}", file=sys.stderr)
        return 1
    return 128 + end.signal if end.signal else 0


if __name__ == "__main__":
    sys.exit(main())
