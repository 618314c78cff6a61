"""Processes over gloo that all run the same functions, started once for all of them.

`HYENA_TEST_RANKS=4 pytest tests/distributed` takes another number of them than two.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from processes import started
from torch import distributed as dist

RANKS = int(os.environ.get("HYENA_TEST_RANKS", "2"))
SETTINGS = {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}


def run_ranks(module: str, folder: Path, ranks: int = RANKS) -> list[dict[str, Any]]:
    """What each rank found by each of the functions in the ``CASES`` of a module of tests: what the
    function returned, or the text of the error that it raised."""
    here = Path(__file__).parent
    search = os.pathsep.join([str(here), str(here.parent), os.environ.get("PYTHONPATH", "")])
    options: dict[str, Any] = {
        # What is small has memory of its own too, and no gaps of a heap count where it is measured.
        "env": {**os.environ, "PYTHONPATH": search, **SETTINGS},
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
    }
    with ExitStack() as running:
        code = f"from ranks import work; work({module!r}, "
        each = [
            running.enter_context(
                started(
                    [sys.executable, "-c", f"{code}{rank}, {ranks}, {str(folder)!r})"], **options
                )
            )
            for rank in range(ranks)
        ]
        for process in each:
            printed, _ = process.communicate(timeout=600)
            assert process.returncode == 0, printed
    return [torch.load(folder / f"{rank}.pt") for rank in range(ranks)]


def work(module: str, rank: int, ranks: int, folder: str) -> None:
    """Of one rank. It ends when all have what they found, by a word in the store and without any
    clean-up: gloo's threads may crash in it, and in a barrier that another rank has left."""
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", ranks)
    patience = timedelta(seconds=120)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=ranks, timeout=patience)
    found: dict[str, Any] = {}
    for name, case in import_module(module).CASES.items():
        try:
            found[name] = case()
        except (OSError, TypeError, ValueError, RuntimeError) as error:
            found[name] = str(error)
    torch.save(found, f"{folder}/{rank}.pt")
    store.set(f"done {rank}", "")
    store.wait([f"done {other}" for other in range(ranks)], patience)
    os._exit(0)
