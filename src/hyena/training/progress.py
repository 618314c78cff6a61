"""What a run shows while it goes on: a live line in a terminal, plain lines elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TextIO

from hyena.training.metrics import Record


class Progress:
    """A line about the latest step.

    A terminal shows it anew after each step, in place. Elsewhere it is printed every few seconds,
    at each evaluation and at the end.

    Args:
        first: finished steps at the start, for the time left.
        steps: steps of the whole run.
        stream: where to write; none means standard error.
        interval: seconds between two lines, where they are printed.
    """

    def __init__(
        self, first: int, steps: int, stream: TextIO | None = None, interval: float = 5.0
    ) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._live = self._stream.isatty()
        self._first, self._steps, self._interval = first, steps, interval
        self._start = time.monotonic()
        self._printed = -interval
        self._pending: str | None = None
        self._validation: Record = {}

    def update(self, record: Record) -> None:
        """Shows the record, or keeps it until the last line is old enough."""
        line = self._line(record)
        now = time.monotonic()
        due = now - self._printed >= self._interval
        self._pending = line
        if self._live:
            width = shutil.get_terminal_size().columns - 1  # a full one would begin the next line
            self._stream.write(f"\r{line:{width}.{width}}")
            self._stream.flush()
        elif due or "validation_loss" in record or record["step"] == self._steps:
            self._printed = now
            self.close()

    def message(self, text: str) -> None:
        """Prints a line, after the last record."""
        self.close()
        print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """Prints the last record if it has not been, or leaves its line as it is."""
        if self._pending is not None:
            print("" if self._live else self._pending, file=self._stream, flush=True)
            self._pending = None

    def _line(self, record: Record) -> str:
        """With the last validation loss in a terminal, where the line of it is gone."""
        step = int(record["step"])
        text = f"step {step}/{self._steps}  loss {record['loss']:.4f}"
        if "validation_loss" in record:
            self._validation = record
        validated = self._validation if self._live else record
        if "validation_loss" in validated:
            text += f"  validation {validated['validation_loss']:.4f}"
        # Of this process's steps, evaluation and checkpoints included.
        seconds = (time.monotonic() - self._start) / max(1, step - self._first)
        left = _duration(seconds * (self._steps - step))
        return f"{text}  {record['tokens_per_s']:,.0f} tokens/s  {left} left"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
