"""The record of a run: one JSON object a line in metrics.jsonl, TensorBoard if asked for, and what
is shown of it meanwhile."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from hyena.files import atomic

FILE = "metrics.jsonl"
_SHOWN = ("accuracy", "f1", "mcc", "pearson", "rmse")  # of an evaluation, beside its loss

Record = dict[str, int | float]
Report = Callable[[int, int], None]
"""Is told the steps done and those of the whole run."""


class Metrics:
    """Appends records to ``out``/metrics.jsonl.

    Args:
        out: folder of the run.
        step: finished steps; records of later ones, and a half-written last line, are removed.
        tensorboard: also write events to ``out``/tensorboard.

    Raises: OSError if the file cannot be written; ImportError if TensorBoard is not installed.
    """

    def __init__(self, out: Path, *, step: int = 0, tensorboard: bool = False) -> None:
        self._writer = _summary_writer(out / "tensorboard", step) if tensorboard else None
        _drop_after(out / FILE, step)
        self._file = open(out / FILE, "a", encoding="utf-8")  # noqa: SIM115 (closed by close)

    def write(self, record: Record) -> None:
        """Appends a record, which has a "step"."""
        self._file.write(json.dumps(record, allow_nan=False) + "\n")
        self._file.flush()  # a killed process loses no line; sync guards against a power cut
        if self._writer is not None:
            for name, value in record.items():
                if name != "step":
                    self._writer.add_scalar(name, value, int(record["step"]))

    def sync(self) -> None:
        """Makes the records durable; done before each checkpoint, so that it lacks none."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the files."""
        self._file.close()
        if self._writer is not None:
            self._writer.close()


def read_metrics(path: str | Path) -> list[Record]:
    """The records of a metrics.jsonl; those after a damaged line are not part of the run."""
    records: list[Record] = []
    path = Path(path)
    if not path.is_file():
        return records
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        try:
            record = json.loads(line)
        except ValueError:
            break
        if not line.endswith("\n") or not isinstance(record, dict) or "step" not in record:
            break
        if not all(isinstance(value, int | float) for value in record.values()):
            break
        records.append(record)
    return records


class Progress:
    """What is shown of a run, on standard error: a line every few seconds, at each evaluation and
    at the end.

    Args:
        first: finished steps at the start, for the time left.
        steps: steps of the whole run.
        report: called after each step with the steps done and those of the whole run.
        interval: seconds between two lines.
    """

    def __init__(
        self, first: int, steps: int, report: Report | None = None, interval: float = 5.0
    ) -> None:
        self._first, self._steps, self._report, self._interval = first, steps, report, interval
        self._start = time.monotonic()
        self._printed = -interval
        self._pending: str | None = None

    def update(self, record: Record) -> None:
        """Prints the record, or keeps it until the last line is old enough."""
        step = int(record["step"])
        self._pending = self._line(step, record)
        now = time.monotonic()
        due = now - self._printed >= self._interval
        if due or "validation_loss" in record or step == self._steps:
            self._printed = now
            self.close()
        if self._report is not None:
            self._report(step, self._steps)

    def message(self, text: str) -> None:
        """Prints a line, after the last record."""
        self.close()
        print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Prints the last record if it has not been."""
        if self._pending is not None:
            print(self._pending, file=sys.stderr, flush=True)
            self._pending = None

    def _line(self, step: int, record: Record) -> str:
        text = f"step {step}/{self._steps}  loss {record['loss']:.4f}"
        if "validation_loss" in record:
            text += f"  validation {record['validation_loss']:.4f}"
        for name in _SHOWN:
            if f"validation_{name}" in record:
                text += f"  {name} {record[f'validation_{name}']:.4f}"
        # Of this process's steps, evaluation and checkpoints included.
        seconds = (time.monotonic() - self._start) / max(1, step - self._first)
        left = timedelta(seconds=round(seconds * (self._steps - step)))
        return f"{text}  {record['tokens_per_s']:,.0f} tokens/s  {left} left"


def _drop_after(path: Path, step: int) -> None:
    if not path.is_file():
        return
    kept = [record for record in read_metrics(path) if record["step"] <= step]
    atomic.write_text(path, "".join(json.dumps(record) + "\n" for record in kept))


def _summary_writer(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError(
            "tensorboard was asked for, but TensorBoard is not installed; "
            "pip install tensorboard, or leave it false (metrics.jsonl is always written)"
        ) from error
    return SummaryWriter(str(folder), purge_step=step + 1)
