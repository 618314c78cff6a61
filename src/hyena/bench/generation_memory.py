"""Memory of a prefill and of the state it leaves, in a fresh process for each figure.

As a program, `python -m hyena.bench.generation_memory`, it measures one and prints it as JSON.
"""

import json
import os
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from hyena.bench.generation_mixers import build_mixer, random_inputs
from hyena.bench.generation_rows import Row
from hyena.bench.generation_state import held_bytes
from hyena.bench.memory import peak_of

_WARM_UP_CONTEXT = 256
_STATM = Path("/proc/self/statm")


def measure_in_fresh_process(row: Row, name: str) -> dict[str, Any]:
    """What `measure_prefill` finds; "failed", one line, if its process ended before."""
    sizes = [name, row.width, row.context, row.tokens, torch.get_num_threads()]
    command = [sys.executable, "-m", "hyena.bench.generation_memory", *map(str, sizes)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, encoding="utf-8")
    if done.returncode:
        return {"failed": f"its process ended: {done.returncode}"}
    return dict(json.loads(done.stdout))


def measure_prefill(row: Row, name: str) -> dict[str, Any]:
    """Memory of one prefill of a mixer; libraries are set up by a short one first.

    Returns: bytes: "state", behind the state's tensors, room for the row's tokens included;
        "stays", resident memory after the prefill beyond what was there before, which has besides
        what the filter keeps for all sequences; "call" and "process", see
        `hyena.bench.memory.Peak`. Those that the system does not tell are left out.
    """
    _prefill(replace(row, context=min(row.context, _WARM_UP_CONTEXT)), name)()
    call = _prefill(row, name)
    states: list[object] = []
    before = _resident()
    peak = peak_of(lambda: states.append(call()))
    after = _resident()
    found: dict[str, Any] = {"state": held_bytes(states[0])}
    if before is not None and after is not None:
        found["stays"] = max(0, after - before)
    return found if isinstance(peak, str) else {**found, **peak._asdict()}


def _prefill(row: Row, name: str) -> Any:
    """A call that returns the state alone."""
    mixer = build_mixer(name, row.width, row.context + row.tokens)
    u = random_inputs(row.batch, row.context, row.width)

    @torch.no_grad()
    def call() -> object:
        return mixer.prefill(u, future=row.tokens)[1]

    return call


def _resident() -> int | None:
    """Bytes of the process in memory; None where the system does not say."""
    if not _STATM.is_file():
        return None
    return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Name, width, context, tokens and threads from the command line."""
    name, *numbers = sys.argv[1:]
    width, context, tokens, threads = map(int, numbers)
    warnings.filterwarnings("ignore", category=RuntimeWarning, module="hyena")
    torch.set_num_threads(threads)
    row = Row("memory", (name,), context=context, tokens=tokens, width=width)
    print(json.dumps(measure_prefill(row, name)))


if __name__ == "__main__":
    main()
