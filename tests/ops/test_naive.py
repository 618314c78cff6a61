"""The definitions themselves, against explicit matrices and PyTorch's own convolution."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from comparison import assert_close
from torch import Tensor
from torch.nn import functional as F

from hyena.ops import Segments, naive

SIZES = [(1, 1, 1, 1), (2, 3, 7, 7), (2, 1, 5, 9), (1, 4, 9, 3), (3, 2, 2, 5)]


def draw(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def toeplitz(k: Tensor, length: int, causal: bool) -> Tensor:
    """(D, L, L): row t, column s holds the tap with lag t − s."""
    D, K = k.shape
    lead = 0 if causal else (K - 1) // 2
    matrix = torch.zeros(D, length, length, dtype=k.dtype)
    for t in range(length):
        for s in range(length):
            if 0 <= t - s + lead < K:
                matrix[:, t, s] = k[:, t - s + lead]
    return matrix


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("B", "D", "L", "K"), SIZES)
def test_long_conv_is_a_toeplitz_matrix(
    B: int, D: int, L: int, K: int, causal: bool, generator: torch.Generator
) -> None:
    u, k, skip = draw(generator, B, D, L), draw(generator, D, K), draw(generator, D)
    expected = torch.einsum("dts,bds->bdt", toeplitz(k, L, causal), u) + skip[:, None] * u
    assert_close(naive.long_conv(u, k, skip, causal=causal), expected, 1e-14)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("B", "D", "L", "K"), SIZES)
def test_short_conv_is_conv1d_with_reversed_taps(
    B: int, D: int, L: int, K: int, causal: bool, generator: torch.Generator
) -> None:
    u, k, bias = draw(generator, B, D, L), draw(generator, D, K), draw(generator, D)
    padding = (K - 1, 0) if causal else ((K - 1) // 2, (K - 1) // 2)
    expected = F.conv1d(F.pad(u, padding), k.flip(1)[:, None], bias, groups=D)
    assert_close(naive.short_conv(u, k, bias, causal=causal), expected, 1e-14)


@pytest.mark.parametrize("causal", [True, False])
def test_gated_conv_is_a_toeplitz_matrix_between_diagonal_ones(
    causal: bool, generator: torch.Generator
) -> None:
    B, D, L = 2, 3, 9
    z, k, skip = draw(generator, B, 3 * D, L), draw(generator, D, 7), draw(generator, D)
    taps, bias = draw(generator, 3 * D, 3), draw(generator, 3 * D)
    S = toeplitz(k, L, causal) + torch.diag_embed(skip[:, None].expand(D, L))
    for x, short in [
        (z, None),
        (naive.short_conv(z, taps, bias, causal=causal), (taps, bias)),
        (naive.short_conv(z, taps, causal=causal), (taps, None)),
    ]:
        post, pre, value = x[:, :D], x[:, D : 2 * D], x[:, 2 * D :]
        H = post[..., None] * S * pre[..., None, :]  # (B, D, L, L)
        got = naive.gated_conv(z, k, skip, short=short, causal=causal)
        assert_close(got, (H @ value[..., None])[..., 0], 1e-14)


@pytest.mark.parametrize("kind", [torch.float64, torch.complex128])
@pytest.mark.parametrize("L", [1, 6])
def test_modal_conv_is_a_toeplitz_matrix_beside_a_response(
    L: int, kind: torch.dtype, generator: torch.Generator
) -> None:
    B, D, n = 2, 3, 4
    u, skip = draw(generator, B, D, L), draw(generator, D)
    log_decay, weight, state = (
        torch.randn(*x, n, generator=generator, dtype=kind) for x in ((D,), (D,), (B, D))
    )
    powers = (log_decay[..., None] * torch.arange(L + 1)).exp()  # (D, n, L + 1)
    k = (weight[..., None] * powers[..., :L]).real.sum(1)
    expected = naive.long_conv(u, k, skip)
    expected += (state[..., None] * weight[..., None] * powers[..., 1:]).real.sum(2)
    y, after = naive.modal_conv(u, log_decay, weight, skip, state=state)
    assert_close(y, expected, 1e-13)
    left = (u[:, :, None] * powers[..., :L].flip(-1)).sum(-1) + powers[..., L] * state
    assert_close(torch.view_as_real(after + 0j), torch.view_as_real(left + 0j), 1e-13)


@pytest.mark.parametrize("causal", [True, False])
def test_documents_are_convolved_on_their_own(causal: bool, generator: torch.Generator) -> None:
    u, k = draw(generator, 2, 3, 9), draw(generator, 3, 9)
    ids = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 2, 2], [4, 4, 4, 4, 4, 4, 4, 4, 7]])
    y = naive.long_conv(u, k, causal=causal, segments=Segments.from_document_ids(ids))
    for row, start, stop in [(0, 0, 4), (0, 4, 7), (0, 7, 9), (1, 0, 8), (1, 8, 9)]:
        alone = naive.long_conv(u[row : row + 1, :, start:stop], k, causal=causal)
        assert_close(y[row : row + 1, :, start:stop], alone, 1e-14)


def test_lags_of_the_taps() -> None:
    assert list(naive.lags(3, causal=True)) == [0, 1, 2]
    assert list(naive.lags(5, causal=False)) == [-2, -1, 0, 1, 2]


def test_shift_brings_in_zeros() -> None:
    u = torch.tensor([[[1.0, 2.0, 3.0]]])
    assert naive.shift(u, 1).tolist() == [[[0.0, 1.0, 2.0]]]
    assert naive.shift(u, -2).tolist() == [[[3.0, 0.0, 0.0]]]
    assert naive.shift(u, 3).tolist() == naive.shift(u, -3).tolist() == [[[0.0, 0.0, 0.0]]]


of_any: Any = naive  # arguments of any kind


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda u: of_any.shift(u[0], 1), r"naive.shift: expected u \(B, D, L\), got \(2, 3\)$"),
        (lambda u: of_any.shift(u, 1 << 63), r"naive.shift: expected lag from -281474976710656 to"),
        (lambda u: of_any.shift(u, 1.5), r"naive.shift: expected an integer as lag, got float$"),
        (lambda u: of_any.shift(u, 1, [0]), r"naive.shift: expected hyena.ops.Segments or None"),
        (lambda u: of_any.lags(1 << 63, True), r"naive.lags: expected taps from 1 to 2\^48, got"),
        (lambda u: of_any.lags("3", True), r"naive.lags: expected an integer as taps, got str$"),
        *(
            (
                partial(of_any.gated_conv, k=torch.ones(1, 2), short=short),
                f"naive.gated_conv: {message}",
            )
            for short, message in [
                ("ab", r"expected short = \(taps \(3·D, J\), bias .* or None, got str$"),
                ((torch.ones(3, 2),), r"expected short = \(taps .* or None, got tuple$"),
                ((None, None), r"short: expected a tensor as k, got None$"),
                ((torch.ones(3, 2), 3), r"short: expected a tensor or None as bias, got int"),
                ((torch.ones(2, 2), None), r"short: k has 2 channels but z has 3; expected z"),
            ]
        ),
    ],
)
def test_arguments_that_are_none(call: Callable[[Tensor], object], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        call(torch.ones(1, 3, 3) if "gated" in message else torch.ones(1, 2, 3))


@pytest.mark.parametrize("causal", [True, False])
def test_taps_that_no_row_holds_cost_nothing(causal: bool) -> None:
    """A loop over all of these would never end."""
    u = torch.ones(1, 1, 5)
    taps = torch.ones(1, 1).expand(1, 2**40 + 1)
    y = naive.long_conv(u, taps, causal=causal)
    assert y.flatten().tolist() == ([1, 2, 3, 4, 5] if causal else [5] * 5)


@pytest.mark.parametrize(("B", "L"), [(2, 0), (0, 3), (0, 0)])
@pytest.mark.parametrize("op", [naive.long_conv, naive.short_conv, naive.gated_conv])
def test_the_gradients_of_nothing_are_zero(op: Callable[..., Tensor], B: int, L: int) -> None:
    channels = 6 if op is naive.gated_conv else 2
    leaves = [torch.ones(B, channels, L), torch.ones(2, 3), torch.ones(2)]
    leaves = [x.double().requires_grad_() for x in leaves]
    y = op(*leaves)
    assert y.shape == (B, 2, L)
    for x, gradient in zip(leaves, torch.autograd.grad(y.sum(), leaves), strict=True):
        assert torch.equal(gradient, torch.zeros_like(x))
