"""A process that measures what it is told to: `python -m hyena.bench.worker`.

It reads a JSON object a line from standard input and answers with one a line on standard output;
whatever else is printed goes to standard error. When its input ends, which is when the process that
started it is gone, so does it, in the middle of a measurement too. See `hyena.bench.processes`.
"""

import json
import os
import queue
import sys
import threading
import warnings
from typing import Any

import torch

from hyena.bench.convolution.cases import Case
from hyena.bench.convolution.limits import limits
from hyena.bench.convolution.measure import measure, measure_memory


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Does what a request asks for; an exception becomes "failed", one line."""
    do = request["do"]
    try:
        if do == "limits":
            return dict(limits(**request["options"]))
        case = Case(**request["cell"])
        if do == "memory":
            return measure_memory(case, request["contender"])
        return measure(case, **request["options"])
    except (ValueError, RuntimeError, MemoryError, ImportError) as problem:
        return {"failed": f"{type(problem).__name__}: {' '.join(str(problem).split())[:500]}"}


def main() -> None:
    """Answers until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    # The report says which kernel is in use; not every process has to warn that there is none.
    warnings.filterwarnings("ignore", category=RuntimeWarning, module="hyena")
    torch.set_num_threads(int(sys.argv[1]))
    # Float32 is float32 on a GPU too, where cuDNN's convolutions would be in TF32.
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
    requests: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(requests,), daemon=True).start()
    while True:
        print(json.dumps(answer(json.loads(requests.get()))), file=answers, flush=True)


def _read(requests: queue.SimpleQueue[str]) -> None:
    """Hands over each line of the input, and ends the process with it."""
    for line in sys.stdin:
        requests.put(line)
    os._exit(0)


if __name__ == "__main__":
    main()
