"""What a run shows while it goes on: a live line in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, TextIO

from hyena.training.metrics import Record

if TYPE_CHECKING:
    from rich.progress import TaskID


def open_progress(first: int, steps: int, stream: TextIO | None = None) -> Progress:
    """A display fit for the stream.

    Args:
        first: finished steps at the start, for the time left.
        steps: steps of the whole run.
        stream: where to write; none means standard error.

    Raises: ImportError if rich is missing and the stream is a terminal.
    """
    stream = sys.stderr if stream is None else stream
    return (
        LiveProgress(first, steps, stream)
        if stream.isatty()
        else LineProgress(first, steps, stream)
    )


class SilentProgress:
    """Shows nothing: the display of all processes but the first."""

    def update(self, record: Record) -> None:
        """Do nothing."""

    def message(self, text: str) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class LineProgress:
    """Prints a line every few seconds and at each evaluation."""

    def __init__(self, first: int, steps: int, stream: TextIO, interval: float = 5.0) -> None:
        self._left = _TimeLeft(first, steps)
        self._steps = steps
        self._stream = stream
        self._interval = interval
        self._printed = -interval
        self._pending: str | None = None

    def update(self, record: Record) -> None:
        """Print the record if the last line is old enough, or if it holds an evaluation."""
        step = int(record["step"])
        line = (
            f"step {step}/{self._steps}  {_figures(record)}  "
            f"{_duration(self._left.seconds(step))} left"
        )
        now = time.monotonic()
        due = now - self._printed >= self._interval
        if due or "validation_loss" in record or step == self._steps:
            self._printed = now
            self._pending = None
            print(line, file=self._stream, flush=True)
        else:
            self._pending = line

    def message(self, text: str) -> None:
        """Print a line, after the last record."""
        self.close()
        print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """Print the last record if it has not been."""
        if self._pending is not None:
            print(self._pending, file=self._stream, flush=True)
            self._pending = None


class LiveProgress:
    """A bar that is redrawn in place."""

    def __init__(self, first: int, steps: int, stream: TextIO) -> None:
        try:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
            from rich.progress import Progress as RichProgress
        except ImportError as error:
            raise ImportError(
                "the progress display needs rich; pip install 'hyena[train]'"
            ) from error
        self._left = _TimeLeft(first, steps)
        self._bar = RichProgress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}  {task.fields[left]} left"),
            console=Console(file=stream),
        )
        self._task: TaskID = self._bar.add_task(
            "training", total=steps, completed=first, figures="", left="?"
        )
        self._validation: Record = {}
        self._bar.start()

    def update(self, record: Record) -> None:
        """Redraw."""
        step = int(record["step"])
        if "validation_loss" in record:
            self._validation = {"validation_loss": record["validation_loss"]}
        self._bar.update(
            self._task,
            completed=step,
            figures=_figures({**self._validation, **record}),
            left=_duration(self._left.seconds(step)),
        )

    def message(self, text: str) -> None:
        """Print a line above the bar."""
        self._bar.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        """Stop redrawing."""
        self._bar.stop()


Progress = LineProgress | LiveProgress | SilentProgress


class _TimeLeft:
    """Extrapolates from the steps of this process, evaluation and checkpoints included."""

    def __init__(self, first: int, steps: int) -> None:
        self._first = first
        self._steps = steps
        self._start = time.monotonic()

    def seconds(self, step: int) -> float:
        done = max(1, step - self._first)
        return (time.monotonic() - self._start) / done * (self._steps - step)


def _figures(record: Record) -> str:
    text = f"loss {record['loss']:.4f}"
    if "validation_loss" in record:
        text += f"  validation {record['validation_loss']:.4f}"
    return f"{text}  {record['tokens_per_s']:,.0f} tokens/s"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
