"""A process that measures what it is told to: `python -m hyena.bench.worker`.

It reads a JSON object a line from standard input and answers with one a line on standard output;
whatever else is printed goes to standard error. See `hyena.bench.runner`, which starts it.
"""

import json
import os
import signal
import sys
import warnings
from typing import Any

import torch

from hyena.bench.cases import Cell
from hyena.bench.limits import limits
from hyena.bench.measure import measure, measure_memory


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Does what a request asks for; an exception becomes "failed", one line."""
    try:
        if request["do"] == "limits":
            return dict(limits(**request["options"]))
        cell = Cell(**request["cell"])
        if request["do"] == "memory":
            return measure_memory(cell, request["contender"])
        return measure(cell, **request["options"])
    except (ValueError, RuntimeError, MemoryError, ImportError) as problem:
        return {"failed": f"{type(problem).__name__}: {' '.join(str(problem).split())[:500]}"}


def main() -> None:
    """Answers until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of Ctrl-C: the process that started us ends us
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    # The report says which kernel is in use; not every process has to warn that there is none.
    warnings.filterwarnings("ignore", category=RuntimeWarning, module="hyena")
    torch.set_num_threads(int(sys.argv[1]))
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
