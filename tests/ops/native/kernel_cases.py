"""Inputs of the native kernel's tests, and what it has to give for them, computed in float64."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from comparison import assert_close
from torch import Tensor

from hyena.ops import _check, gated_conv, naive
from hyena.ops.native import _call, library

# Relative L2 errors of float32 against float64. Measured: up to 3.3e-7 for the output and the
# gradients of input and filter, at every size. The gradients of skip, short taps and bias are sums
# over rows: in all cases of these tests up to 6.5e-7 (13 numbers, each of 131072 positions), of
# which they may have three times as much.
TOLERANCE = 4e-7
TOLERANCE_OF_SUMS = 2e-6
FEW = 64
# Narrow numbers are rounded once, at the end, and computed with in float32: only ties differ.
NARROW = {torch.bfloat16: 1e-3, torch.float16: 1e-4}


def draw(
    B: int, D: int, L: int, K: int, J: int = 3, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, ...]:
    """z, k, skip, short taps and bias, of variance one; filters of float32."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(B, 3 * D, L), (D, K), (D,), (3 * D, J), (3 * D,)]
    z, *filters = (torch.randn(s, generator=generator) for s in shapes)
    return z.to(dtype), *filters


def odd(number: int) -> int:
    """The next odd number, as two-sided filters need."""
    return number + 1 - number % 2


def native(**options: Any) -> Callable[..., Tensor]:
    """The gated convolution by the kernel, as a function of its tensors alone."""

    def op(z: Tensor, k: Tensor, skip: Tensor, *short: Tensor) -> Tensor:
        return gated_conv(z, k, skip, short=short or None, backend="native", **options)

    return op


def in_place(
    z: Tensor,
    *filters: Tensor,
    offset: Tensor | None = None,
    out: Tensor | None = None,
    **options: Any,
) -> Tensor:
    """The gated convolution as the operator calls it: of z + offset, into ``out``."""
    k, skip, *short = filters
    c = _check.convolution("gated_conv", z, k, skip, tuple(short) or None, parts=3, **options)
    return _call.forward(c, out=out, offset=offset)


def documents() -> Tensor:
    """Ids of a batch (2, 40): two documents in the first row, one in the second."""
    return (torch.arange(40) >= torch.tensor([[11], [40]])).long()


def short_op(u: Tensor, taps: Tensor, bias: Any, lead: int, ids: Any) -> Tensor:
    """The registered op's short convolution."""
    y: Tensor = torch.ops.hyena.conv(u, 1, None, 0, None, taps, bias, 0, lead, ids)
    return y


def definition(**options: Any) -> Callable[..., Tensor]:
    """The definition of it, in float64 whatever comes in, rounded at the end."""

    def op(z: Tensor, *filters: Tensor) -> Tensor:
        k, skip, *short = (x.double() for x in filters)
        y = naive.gated_conv(z.double(), k, skip, short=tuple(short) or None, **options)
        return y.to(z.dtype)

    return op


def by_fft(**options: Any) -> Callable[..., Tensor]:
    """The same through PyTorch's FFT in float64, for rows that are too long for the definition."""

    def op(z: Tensor, *filters: Tensor) -> Tensor:
        k, skip, *short = (x.double() for x in filters)
        y = gated_conv(z.double(), k, skip, short=tuple(short) or None, backend="torch", **options)
        return y.to(z.dtype)

    return op


def assert_right(got: Sequence[Tensor], expected: Sequence[Tensor], sums: int = 3) -> None:
    """Output and the gradients of input, filter, skip and so on, each within its tolerance; those
    from index ``sums`` on are sums over rows.

    These sums are compared as one tensor, and so are tensors of few numbers: in one of them all may
    happen to be small.
    """
    assert len(got) == len(expected)
    together: list[tuple[Tensor, Tensor]] = []
    for index, (a, b) in enumerate(zip(got, expected, strict=True)):
        assert (a.shape, a.dtype) == (b.shape, b.dtype), f"tensor {index}"
        if a.dtype not in NARROW and (index >= sums or b.numel() < FEW):
            together.append((a.flatten(), b.flatten()))
            continue
        try:
            assert_close(a, b, NARROW.get(a.dtype, TOLERANCE))
        except AssertionError as error:
            raise AssertionError(f"tensor {index}: {error}") from None
    if together:
        a, b = (torch.cat(x) for x in zip(*together, strict=True))
        assert_close(a, b, TOLERANCE_OF_SUMS)


def assert_each_build_right(
    run: Callable[[], Sequence[Tensor]], expected: Sequence[Tensor], sums: int = 3
) -> None:
    """`assert_right` of what each build gives that this processor can run."""
    for isa in library.isas():
        with library.use(isa):
            got = run()
        try:
            assert_right(got, expected, sums)
        except AssertionError as error:
            raise AssertionError(f"{isa}: {error}") from None


def sizes(most: int) -> list[tuple[int, int]]:
    """(shortest row, size) of every transform of the build in use, up to a size."""
    found: dict[int, int] = {}
    for length in range(1, most + 1):
        found.setdefault(_call.transform_size(length), length)
    return [(shortest, n) for n, shortest in found.items() if n <= most]


def all_sizes(most: int) -> list[tuple[str, int, int]]:
    """The same of every build: (build, shortest row, size)."""
    every = []
    for isa in library.isas():
        with library.use(isa):
            every += [(isa, *size) for size in sizes(most)]
    return every
