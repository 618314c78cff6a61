"""What each rank does for `test_checkpoint_in_parts`."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from shared_cases import STEPS, config
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter

from hyena.training import CheckpointConfig, train

SHARDED = CheckpointConfig(every=1, keep=9, sharded=True)


def run(name: str, data: Path, folder: Path, **changes: Any) -> None:
    """A run of two processes that keep parameters in parts."""
    options = {"devices": 2, "shard": 2, "checkpoint": SHARDED, **changes}
    train(config(data, folder / name, **options))


def failing(what: Callable[[], None]) -> Callable[[Path, Path], None]:
    """A run whose second process does something else in the place of its third part."""

    def case(data: Path, folder: Path) -> None:
        write = HuggingFaceStorageWriter.write_data

        def write_data(self: Any, *given: Any) -> Any:
            saves.append(0)
            if len(saves) == 3 and os.environ["RANK"] == "1":
                what()
            return write(self, *given)

        saves: list[int] = []
        HuggingFaceStorageWriter.write_data = write_data  # type: ignore[method-assign]
        try:
            run(what.__name__, data, folder)
        finally:
            HuggingFaceStorageWriter.write_data = write  # type: ignore[method-assign]

    return case


def full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def killed() -> None:
    os._exit(0)


def of_both(data: Path, folder: Path) -> None:
    """Rows cut and parameters in parts, from what two processes with whole ones wrote."""
    run("moved", data, folder, shard=1, steps=STEPS + 1, resume=True, stop_after=1)
    run("moved", data, folder, context=2, steps=STEPS + 1, resume=True, stop_after=1)


CASES: dict[str, Callable[[Path, Path], object]] = {
    "in parts": partial(run, "parts"),
    "in one file": partial(run, "file", checkpoint=CheckpointConfig(every=1, keep=9)),
    "the first half": partial(run, "halves", stop_after=2),
    "the second half": partial(run, "halves", resume=True),
    "moved": of_both,
    "full": failing(full),
    "killed": failing(killed),
}
