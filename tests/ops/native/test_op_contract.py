"""The registered ops refuse what the kernel would read or write beyond."""

import re
from typing import Any

import pytest
import torch
from comparison import assert_close
from kernel_cases import documents, draw

from hyena.ops import filter_spectrum, naive
from hyena.ops.native import library

B, D, L, K, J = 2, 3, 40, 39, 3

Changes = dict[str, Any]


def arguments(**changes: Any) -> Changes:
    """Those of hyena::conv, in order."""
    z, k, skip, taps, bias = draw(B, D, L, K, J)
    good: Changes = {
        "z": z, "parts": 3, "filter": k, "n": 0, "skip": skip, "taps": taps, "bias": bias,
        "lead": 0, "short_lead": 0, "ids": documents(),
    }  # fmt: skip
    return {**good, **changes}


def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.zeros(shape, dtype=dtype)


BAD: list[tuple[str, Changes]] = [
    ("expected parts = 1 or 3, got 2", {"parts": 2}),
    ("expected parts = 1 or 3, got 0", {"parts": 0}),
    ("expected floating point z (B, 3·D, L), got (2, 10, 40)", {"z": zeros(B, 10, L)}),
    ("expected floating point z (B, 3·D, L), got (9, 40)", {"z": zeros(9, L)}),
    ("expected floating point z (B, 3·D, L)", {"z": zeros(B, 9, L, dtype=torch.int64)}),
    ("expected filter (3, ≥ 1)", {"filter": zeros(2, K)}),
    ("expected filter (3, ≥ 1)", {"filter": zeros(D, 0)}),
    ("expected filter (3, ≥ 1)", {"filter": zeros(D)}),
    ("or half of an odd number of taps, in filter, got 40 of 39 taps", {"lead": 40}),
    ("in filter, got -1 of 39 taps", {"lead": -1}),
    ("expected skip (3,), got (2,)", {"skip": zeros(2)}),
    ("expected floating point skip on cpu, got torch.int64", {"skip": zeros(D, dtype=torch.int64)}),
    ("expected taps (9, ≥ 1)", {"taps": zeros(8, J)}),
    ("expected at most 64 taps in the short convolution, got 65", {"taps": zeros(9, 65)}),
    ("in taps, got 3 of 3 taps", {"short_lead": 3}),
    ("expected bias (9,)", {"bias": zeros(3)}),
    ("bias is that of the short convolution, but taps are None", {"taps": None}),
    ("expected integer ids (B, L) = (2, 40), got (2, 39)", {"ids": zeros(2, 39).long()}),
    ("expected integer ids (B, L) = (2, 40)", {"ids": zeros(2, 40)}),
    ("without a filter, expected taps, parts = 1 and no skip", {"filter": None}),
    ("a spectrum (n = 64) holds its skip already", {"n": 64}),
    ("a spectrum (n = 64) holds its skip already", {"n": 64, "skip": None}),
    ("a spectrum of the native kernel for 3 channels", {"n": 64, "skip": None, "ids": None}),
]


@pytest.mark.parametrize(("message", "changes"), BAD)
def test_a_convolution_that_cannot_be(message: str, changes: Changes) -> None:
    given = arguments(**changes)
    with pytest.raises(ValueError, match=f"{re.escape(message)}") as error:
        torch.ops.hyena.conv(*given.values())
    assert "\n" not in str(error.value)
    dy = torch.zeros(B, D, L)
    with pytest.raises(ValueError, match=f"{re.escape(message)}"):
        torch.ops.hyena.conv_backward(dy, *given.values(), True, [True, False, True, True, True])


@pytest.mark.parametrize("length", [L, 500])
def test_a_spectrum_that_is_too_short_or_of_another_length(length: int) -> None:
    z, k, *_ = draw(B, D, length, length)
    kept = filter_spectrum(k, length)
    longer = filter_spectrum(k, 2 * length)
    message = rf"^a spectrum of the native kernel for 3 channels of length {length} is \d+ float32 "
    for values, n in (
        (kept.values[:-1], kept.n),
        (kept.values[:0], kept.n),
        (kept.values.double(), kept.n),
        (kept.values, longer.n),
        (longer.values, longer.n),
        (kept.values, -1),
    ):
        with pytest.raises(ValueError, match=message):
            torch.ops.hyena.conv(z, 3, values, n, None, None, None, 0, 0, None)
        need, dy = [True, False, True, True, True], torch.zeros(B, D, length)
        with pytest.raises(ValueError, match=message):
            torch.ops.hyena.conv_backward(
                dy, z, 3, values, n, None, None, None, 0, 0, None, True, need
            )


def test_gradients_that_cannot_be() -> None:
    given = list(arguments().values())
    need = [True] * 5
    op = torch.ops.hyena.conv_backward
    for dy in (zeros(B, D, L - 1), zeros(B, 3 * D, L), zeros(B, D, L, dtype=torch.float64)):
        with pytest.raises(ValueError, match=r"expected dy \(2, 3, 40\) of torch.float32 on cpu"):
            op(dy, *given, True, need)
    with pytest.raises(ValueError, match=r"expected need to be 5 truth values, got 2$"):
        op(zeros(B, D, L), *given, True, [True, True])
    z, k, *_ = draw(B, D, L, L)
    kept = filter_spectrum(k, L)
    with pytest.raises(ValueError, match=r"a spectrum has no gradient; pass the filter and n = 0"):
        op(zeros(B, D, L), z, 3, kept.values, kept.n, None, None, None, 0, 0, None, True, need)


@pytest.mark.parametrize("kernel", [True, False])
@pytest.mark.parametrize("shape", [(0, 9, L), (B, 0, L), (B, 9, 0)])
def test_nothing_gives_nothing(shape: tuple[int, int, int], kernel: bool) -> None:
    D = shape[1] // 3
    z, k, skip = torch.zeros(shape), torch.ones(D, 5), torch.ones(D)
    taps, bias = torch.ones(3 * D, 3), torch.ones(3 * D)
    given = (z, 3, k, 0, skip, taps, bias, 0, 0, None)
    with library.use(library.isa() if kernel else "none"):
        y = torch.ops.hyena.conv(*given)
        found = torch.ops.hyena.conv_backward(y, *given, True, [True] * 5)
    assert y.shape == (shape[0], D, shape[2])
    for x, gradient in zip((z, k, skip, taps, bias), found, strict=True):
        assert torch.equal(gradient, torch.zeros_like(x))


def test_more_taps_than_the_kernel_takes() -> None:
    u, taps, dy = torch.randn(2, 3, 200), torch.randn(3, 129), torch.randn(2, 3, 200)
    given = (u, 1, None, 0, None, taps, None, 0, 0, None)
    expected = naive.short_conv(u.double(), taps.double())
    assert_close(torch.ops.hyena.conv(*given), expected, 1e-6, dtype=torch.float32)
    need = [True, False, False, True, False]
    _, _, _, dtaps, _ = torch.ops.hyena.conv_backward(dy, *given, True, need)
    wide = taps.double().requires_grad_()
    naive.short_conv(u.double(), wide).backward(dy.double())
    assert wide.grad is not None
    assert_close(dtaps, wide.grad, 2e-6, dtype=torch.float32)
