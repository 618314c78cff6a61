"""The record of a finished cell: ``result.json``."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from hyena import __version__
from hyena.experiments.cell import CellConfig, command, differences, plain
from hyena.experiments.measure import Measurement
from hyena.files import records
from hyena.machine import convolution, setting
from hyena.tasks import TaskConfig

FILE = "result.json"
FAILED = "failed.txt"
"""In the folder of a cell that failed: why."""
FORMAT_VERSION = 1
_AGAIN = "if it is of this cell, remove it to measure the cell again"

Stopped = Literal["steps", "minutes", "accuracy", "diverged"]
"""Why a training ended: all steps done, the minutes over, the accuracy reached, or a loss or
gradient that is not finite (the weights are then those before it)."""


@dataclass(frozen=True)
class Result:
    """A finished cell.

    Attributes:
        config: the cell, plain.
        command: the command line that runs it again.
        versions: of hyena, torch and Python, and which convolution ran.
        machine: processor and number of cores.
        threads: that were computed with.
        parameters: of the model.
        steps: that it was trained for.
        tokens: of their batches.
        minutes: that they took.
        total_minutes: with measuring and writing.
        stopped: see `Stopped`.
        curve: a table a measurement: step, phase, length and keys (most different ones in a
            sequence, None for all) of the batch before it, tokens, seconds (of training), loss
            (mean of the training losses since the one before), value (on the validation
            sequences).
        test: the final measurement, on test sequences.
    """

    config: dict[str, Any]
    command: str
    versions: dict[str, str]
    machine: dict[str, Any]
    threads: int
    parameters: int
    steps: int
    tokens: int
    minutes: float
    total_minutes: float
    stopped: Stopped
    curve: list[dict[str, Any]]
    test: Measurement


def write_result(config: CellConfig, test: Measurement, **facts: Any) -> Result:
    """Writes the record into the cell's folder, atomically, and returns it.

    Args: the cell; the final measurement; the other fields of `Result` that are not of the machine.
    """
    where = setting()
    result = Result(
        config=plain(config),
        command=command(config),
        versions={
            "hyena": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            **convolution(),
        },
        machine={"processor": where["processor"], "cores": os.cpu_count()},
        threads=torch.get_num_threads(),
        test=test,
        **facts,
    )
    records.write_record(config.out / FILE, result, FORMAT_VERSION)
    (config.out / FAILED).unlink(missing_ok=True)
    return result


def find_finished(config: CellConfig) -> Result | None:
    """The cell's record, if it is finished; then no note in its folder says that it failed.

    Raises: ValueError if the record is damaged, or of another cell: perhaps an option has got
        another default.
    """
    result = read_result(config.out)
    if result is None:
        return None
    changed = differences(result.config, plain(config))
    if changed:
        raise ValueError(
            f"{config.out} holds another cell, which is finished: {'; '.join(changed)}. Use "
            "another folder, or remove this one"
        )
    (config.out / FAILED).unlink(missing_ok=True)
    return result


def read_result(folder: Path) -> Result | None:
    """The record in a cell's folder; None if the cell is not finished.

    Raises: ValueError if it is damaged or of another format version.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    content = records.read_versioned(path, FORMAT_VERSION, advice=_AGAIN)
    try:
        return as_result(content)
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}; {_AGAIN}") from error


def as_result(content: Any) -> Result:
    """The record whose fields are these, plain. Raises: ValueError if they are not."""
    result = records.from_plain(Result, content)
    # Or no table could be made of it.
    records.from_plain(TaskConfig, result.config.get("task"), "config.task")
    return result
