"""How far it is from `gated_conv` to the kernel: Python frames on the way, and the time of a call.

The input is so small, z (1, 3·64, 256), that the way costs as much as the kernel. Both are
measured without a gradient and with one, where a call is a step of training: the forward pass, then
the backward pass from a given gradient of y, with every ``.grad`` None before and written after.

    python benchmarks/corridor.py
    python benchmarks/corridor.py --against OTHER_ENVIRONMENT/bin/python

With another build's Python, both builds take turns in processes of their own, each turn gives the
median of its calls, and the ratio of the two comes with the interval that holds its median in 95 of
100 measurements.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import torch

from hyena.ops import gated_conv
from hyena.ops.native import library

MODES = ("without", "with")


def call(mode: str) -> Callable[[], object]:
    """A call of `gated_conv`, ``mode`` a gradient."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(1, 3 * 64, 256), (64, 256), (64,)]
    inputs = [torch.randn(shape, generator=generator) for shape in shapes]
    if mode == "without":
        return lambda: gated_conv(*inputs)
    dy = torch.ones(1, 64, 256)
    for x in inputs:
        x.requires_grad_()

    def step() -> None:
        for x in inputs:
            x.grad = None
        gated_conv(*inputs).backward(dy)

    return step


def frames(mode: str) -> int:
    """Python functions entered from `gated_conv` on until the kernel is called."""
    f = call(mode)
    f()  # what is kept between calls is there
    entered: list[str] = []

    def enter(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            entered.append(f"{frame.f_code.co_filename}:{frame.f_code.co_name}")

    def at_kernel(*_: object) -> int:
        sys.setprofile(None)
        return 1  # no memory, at which the call ends

    kernel = library.kernel()
    assert kernel is not None, library.why_not()
    before = kernel.forward
    object.__setattr__(kernel, "forward", type(before)(at_kernel))
    try:
        sys.setprofile(enter)
        f()
    except MemoryError:
        pass
    finally:
        sys.setprofile(None)
        object.__setattr__(kernel, "forward", before)
    first = next(i for i, name in enumerate(entered) if name.endswith(":gated_conv"))
    last = next(i for i, name in enumerate(entered) if name.endswith(":at_kernel"))
    return last - first


def work() -> None:
    """Answers each line "mode calls" with the seconds of the median call."""
    torch.set_num_threads(1)
    calls = {mode: call(mode) for mode in MODES}
    for line in sys.stdin:
        mode, count = line.split()
        f, took = calls[mode], []
        for _ in range(int(count)):
            start = time.perf_counter()
            f()
            took.append(time.perf_counter() - start)
        print(statistics.median(took), flush=True)


def ask(worker: subprocess.Popen[str], mode: str, count: int) -> float:
    assert worker.stdin is not None
    assert worker.stdout is not None
    print(mode, count, file=worker.stdin, flush=True)
    return float(worker.stdout.readline())


def interval(values: list[float]) -> tuple[float, float]:
    """Ranked values that hold the median with 95%: the normal limit of the binomial law."""
    ranked, n = sorted(values), len(values)
    half = 0.98 * n**0.5
    return ranked[max(int(n / 2 - half), 0)], ranked[min(int(n / 2 + half), n - 1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--against", type=Path, help="the Python of another environment")
    parser.add_argument("--pairs", type=int, default=60, help="how often each takes its turn")
    parser.add_argument("--calls", type=int, default=200, help="in each turn")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work()
        return
    for mode in MODES:
        print(f"{mode} gradient: {frames(mode)} Python frames")
    pythons = [sys.executable, *([str(given.against)] if given.against else [])]
    workers = [
        subprocess.Popen(
            [python, __file__, "--worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for python in pythons
    ]
    try:
        for mode in MODES:
            for worker in workers:
                ask(worker, mode, given.calls)
            turns = [[ask(w, mode, given.calls) for w in workers] for _ in range(given.pairs)]
            words = [f"{statistics.median(x) * 1e6:.1f} µs" for x in zip(*turns, strict=True)]
            line = f"{mode} gradient: {words[0]}"
            if given.against:
                ratios = [ours / other for ours, other in turns]
                low, high = interval(ratios)
                ratio = statistics.median(ratios)
                line += f", the other {words[1]}, ratio {ratio:.3f} ({low:.3f} to {high:.3f})"
            print(line)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


if __name__ == "__main__":
    main()
