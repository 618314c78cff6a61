"""A process that runs one cell: ``python -m hyena.experiments.worker``.

It reads the plain cell as a line of JSON from standard input, and saves and ends when its input
does, which is when the process that started it is gone. See `hyena.experiments.sweep`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading

from hyena.experiments.cell import CellConfig
from hyena.experiments.run import run_cell
from hyena.files.records import from_plain


def main() -> int:
    """Runs the cell. Returns: 0, 1 if it failed, 128 + n if signal n stopped it."""
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(0, 65536)
        if not piece:
            return 1
        line += piece
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        end = run_cell(from_plain(CellConfig, json.loads(line)), say=_say)
    except (ValueError, OSError, RuntimeError, ImportError, MemoryError) as problem:
        message = " ".join(str(problem).split()) or type(problem).__name__
        print(f"error: {message}", file=sys.stderr)
        return 1
    return 128 + end.signal if end.signal else 0


def _say(line: str) -> None:
    print(line, flush=True)


def _end_with_parent() -> None:
    os.read(0, 1)  # nothing more is ever sent: it returns when the parent is gone
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
