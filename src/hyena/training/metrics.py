"""The record of a run: one JSON object a line in metrics.jsonl, and TensorBoard if asked for."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from hyena.files import atomic

FILE = "metrics.jsonl"
Record = dict[str, int | float]


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
        """Append a record, which has a "step"."""
        self._file.write(json.dumps(record, allow_nan=False) + "\n")
        self._file.flush()  # a killed process loses no line; sync guards against a power cut
        if self._writer is not None:
            for name, value in record.items():
                if name != "step":
                    self._writer.add_scalar(name, value, int(record["step"]))

    def sync(self) -> None:
        """Make the records durable; done before each checkpoint, so that it lacks none."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the files."""
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
            "tensorboard=true was asked for, but TensorBoard is not installed; "
            "pip install tensorboard, or leave it false (metrics.jsonl is always written)"
        ) from error
    return SummaryWriter(str(folder), purge_step=step + 1)
