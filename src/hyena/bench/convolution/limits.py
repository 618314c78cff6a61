"""What the machine can do at most, measured in the same run as the convolutions."""

import math
from collections.abc import Callable

import torch

from hyena.bench.timing import clock_of, time_in_turns
from hyena.ops.native import library

SIZE = 1 << 28  # bytes of a tensor, several times a last-level cache
MATRIX = 1536  # rows and columns


def limits(
    *, seconds: float = 4.0, size: int = SIZE, matrix: int = MATRIX, device: str = "cpu"
) -> dict[str, float]:
    """Memory bandwidth in bytes/s, matrix products in FLOP/s, and the multiply-add mix if known.

    - ``copy``, ``triad``: a = b and a = b + s·c, counted as 2 and 3 passes over the tensors. The
      read of a line before it is written, which some processors do, is not counted.
    - ``matmul``, ``matmul_bf16``: square products.
    - ``multiply_add``: what the kernel's butterflies would reach with no memory at all: its mix of
      multiplications, additions and multiply-adds, all in registers; absent without the kernel and
      on another device than the CPU.
    """
    n = max(1, size // 4)
    a, b, c = (torch.full((n,), float(i), device=device) for i in range(3))
    x = torch.randn(matrix, matrix, generator=torch.Generator().manual_seed(0)).to(device)
    y = x.bfloat16()
    calls: dict[str, Callable[[], object]] = {
        "copy": lambda: a.copy_(b),
        "triad": lambda: torch.add(b, c, alpha=3.0, out=a),
        "matmul": lambda: x @ x,
        "matmul_bf16": lambda: y @ y,
    }
    work = {"copy": 8.0 * n, "triad": 12.0 * n, "matmul": 2.0 * matrix**3}
    work["matmul_bf16"] = work["matmul"]
    times = time_in_turns(calls, seconds=seconds, repeats=50, clock=clock_of(device))
    found = {name: work[name] / times[name].median for name in calls}
    if device == "cpu" and library.kernel() is not None:
        found["multiply_add"] = library.multiply_add_rate(torch.get_num_threads())
    return found


def nominal_flops(width: int, length: int) -> float:
    """Operations of a causal convolution as two real transforms of size 2L are usually counted.

    2 · 2.5·2L·log2(2L) for the transforms, 6·(L + 1) for the product of spectra, 3·L for gates and
    skip, a channel. Other algorithms may do less: it is a common measure, not what is executed.
    """
    n = 2 * length
    return width * (5.0 * n * math.log2(n) + 6.0 * (length + 1) + 3.0 * length)


def least_traffic(width: int, length: int) -> float:
    """Bytes that a gated convolution must move in float32: z and the spectrum read, y written."""
    return 4.0 * width * length * (3 + 2 + 1)
