"""Two processes over gloo that train one run after the other, started once for all of them."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path

from processes import started

RANKS = 2


def free_port() -> str:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return str(asked.getsockname()[1])


def run_two(module: str, data: Path, folder: Path) -> list[dict[str, str]]:
    """What each of the ``CASES`` of a module said on each rank: what it returned, or its error."""
    tests = Path(__file__).parent
    search = os.pathsep.join([str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": search, "OMP_NUM_THREADS": "1"}
    port = free_port()
    with ExitStack() as running:
        each = []
        for rank in range(RANKS):
            code = f"from two_ranks import work; work({module!r}, {str(data)!r}, {str(folder)!r})"
            ranks = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(RANKS)}
            place = {**ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            with open(folder / f"rank{rank}.txt", "w") as output:
                process = started(
                    [sys.executable, "-c", code],
                    env={**environment, **place},
                    stdout=output,
                    stderr=output,
                )
                each.append(running.enter_context(process))
        for rank, process in enumerate(each):
            process.wait(timeout=600)
            assert process.returncode == 0, (folder / f"rank{rank}.txt").read_text()
    return [json.loads((folder / f"said{rank}.json").read_text()) for rank in range(RANKS)]


def work(module: str, data: str, folder: str) -> None:
    """Of one rank. Each run meets at a port of its own, since the last one's may linger."""
    rank, place = os.environ["RANK"], Path(folder)
    said = {}
    for name, case in import_module(module).CASES.items():
        port = place / f"port of {name}"
        if rank == "0":
            port.with_suffix(".new").write_text(free_port())
            os.rename(port.with_suffix(".new"), port)
        while not port.exists():
            time.sleep(0.01)
        os.environ["MASTER_PORT"] = port.read_text()
        try:
            said[name] = str(case(Path(data), place))
        except (ValueError, RuntimeError, OSError) as error:
            said[name] = str(error)
        (place / f"said{rank}.json").write_text(json.dumps(said))
    os._exit(0)
