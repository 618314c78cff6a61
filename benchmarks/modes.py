"""Filters that are sums of modes, by the kernel's scan and by transforms of their taps: which is
quicker, and from which length on.

    python benchmarks/modes.py
    python benchmarks/modes.py --lengths 2048 4096 --widths 256

One row between an operator's projections, float32: "kept" is a forward pass whose spectrum is at
hand, "anew" one that makes the taps, as in training, and "training" that with its gradients. Each
figure is the time by transforms over that by modes, so the scan is quicker above 1; in brackets the
milliseconds by modes. `BY_MODES`, `BY_MODES_KEPT` and `MOST_NUMBERS` of ``hyena.mixers.hyena`` are
set by it.
"""

import argparse
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from hyena.bench.convolution.contender import Outputs, outputs
from hyena.bench.reference import relative_error
from hyena.bench.timing import Timing, time_in_turns
from hyena.files.markdown import table
from hyena.filters import LongFilter, ModalTaps, RealModalTaps
from hyena.machine import convolution, hardware
from hyena.mixers import HyenaOperator

TAPS: dict[str, tuple[type[nn.Module], int]] = {
    "16 real (hyena-li)": (RealModalTaps, 16),
    "2 complex (StripedHyena 7B)": (ModalTaps, 2),
    "8 complex (Evo 1)": (ModalTaps, 8),
    "16 complex": (ModalTaps, 16),
    "32 complex": (ModalTaps, 32),
}
WAYS = ("kept", "anew", "training")
LENGTHS = tuple(1 << a for a in range(10, 18))  # 1k … 128k
TOLERANCE = 1e-5  # between the two


def call(op: HyenaOperator, z: Tensor, dy: Tensor, way: str, by_modes: bool) -> Outputs:
    """What lies between the projections of z (1, 3D, L); in training the gradients with it."""
    length, short = z.shape[2], (op.short_conv.weight, op.short_conv.bias)

    def between(z: Tensor) -> Tensor:
        if by_modes:
            kernels = op.modes(length)
        elif way == "kept":
            kernels = op.kernels(length, None)
        else:
            kernels = list(zip(op.filter(length), op.filter.direct, strict=True))
        return op.between(z, short, kernels, None)

    leaves = [z, *op.short_conv.parameters(), *op.filter.parameters()]
    return outputs(between, [z], leaves, dy if way == "training" else None)


def compare(kind: str, way: str, width: int, length: int, seconds: float) -> dict[str, Timing]:
    """The times "by modes" and "by transforms".

    Raises: RuntimeError if their results are not the same.
    """
    made, modes = TAPS[kind]
    filter = LongFilter(made(width, modes), width, length)
    op = HyenaOperator(width, length, filter=filter).train(way == "training")
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(1, 3 * width, length, generator=generator, requires_grad=way == "training")
    dy = torch.randn(1, width, length, generator=generator)
    calls = {
        name: partial(call, op, z, dy, way, by_modes)
        for name, by_modes in (("by modes", True), ("by transforms", False))
    }
    found = [make() for make in calls.values()]
    error = max(relative_error(a, b.double()) for a, b in zip(*found, strict=True))
    if not error < TOLERANCE:
        raise RuntimeError(f"{kind}, {way}, L={length}: the two differ by {error:.1e}")
    del found
    return time_in_turns(calls, seconds=seconds, repeats=100)


def row(kind: str, way: str, width: int, length: int, seconds: float) -> list[str]:
    """A line of the table."""
    times = compare(kind, way, width, length, seconds)
    ours, other = times["by modes"].median, times["by transforms"].median
    return [kind, way, f"{width}", f"{length:,}", f"{other / ours:.2f} ({1e3 * ours:.3g})"]


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="sums of modes against transforms")
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--widths", type=int, nargs="+", default=(256,))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--kinds", nargs="+", choices=TAPS, default=tuple(TAPS))
    parser.add_argument("--seconds", type=float, default=2.0, help="of samples for each figure")
    choice = parser.parse_args(words)
    threads = torch.get_num_threads()
    print(f"{hardware()}, kernel {convolution()['kernel']}, {threads} threads", flush=True)
    lines = [["modes", "", "D", "L", "transforms / modes (ms)"]]
    for kind in choice.kinds:
        for way in choice.ways:
            for width in choice.widths:
                for length in choice.lengths:
                    line = row(kind, way, width, length, choice.seconds)
                    print(" ".join(line), flush=True)
                    lines.append(line)
    print(f"\n{table(lines)}")


if __name__ == "__main__":
    main()
