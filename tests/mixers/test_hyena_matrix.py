"""The written-out matrix of an operator against its definition and its output."""

from typing import Any

import pytest
import torch
from comparison import assert_close
from mixer_definitions import hyena_matrices
from torch import Tensor

from hyena.filters import ExplicitTaps, HyenaFilter, LongFilter, RealModalTaps
from hyena.mixers import HyenaOperator, hyena_matrix

D, M = 4, 24


def make(order: int, **options: Any) -> HyenaOperator:
    return HyenaOperator(D, M, order, dtype=torch.float64, **options)


def draw(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def output(op: HyenaOperator, u: Tensor) -> Tensor:
    """Of the operator by the matrices of its channels, (L, D)."""
    products = [matrix @ value for matrix, value in (hyena_matrix(op, u, d) for d in range(D))]
    return op.out_proj(torch.stack(products, dim=1))


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("order", [2, 3, 4])
@pytest.mark.parametrize("L", [1, 2, 7, M])
def test_equals_the_definition_and_gives_the_output(
    L: int, order: int, bidirectional: bool, generator: torch.Generator
) -> None:
    op, u = make(order, bidirectional=bidirectional), draw(generator, L, D)
    matrices, values = hyena_matrices(op, u)
    for d in range(D):
        found = hyena_matrix(op, u, d)
        assert_close(found.matrix, matrices[d], 1e-13)
        assert_close(found.value, values[:, d], 1e-13)
    assert_close(output(op, u), op(u[None])[0], 1e-12)


@pytest.mark.parametrize(
    "taps", [ExplicitTaps(D, 5, groups=2), ExplicitTaps(D, 3 * M), RealModalTaps(D, 3)]
)
@pytest.mark.parametrize("skip", [False, True])
def test_filters_that_end_or_decay(
    skip: bool, taps: torch.nn.Module, generator: torch.Generator
) -> None:
    filter = LongFilter(taps.double(), D, M, skip=skip, dtype=torch.float64)
    op, u = make(2, filter=filter, bias=False), draw(generator, M, D)
    assert_close(output(op, u), op(u[None])[0], 1e-12)


def test_dropout_is_left_out(generator: torch.Generator) -> None:
    op, u = make(3, dropout=0.5).train(), draw(generator, M, D)
    assert_close(output(op, u), op.eval()(u[None])[0], 1e-12)


def test_values_are_of_float32_or_wider(generator: torch.Generator) -> None:
    op, u = make(2).bfloat16(), draw(generator, 5, D).bfloat16()
    assert hyena_matrix(op, u, 0).matrix.dtype == torch.float32


@pytest.mark.parametrize(
    ("shape", "channel", "message"),
    [
        ((5, D + 1), 0, r"expected u \(L, D\) with L ≥ 1 and D = 4, got \(5, 5\)"),
        ((1, 5, D), 0, r"expected u \(L, D\) .* got \(1, 5, 4\)"),
        ((0, D), 0, r"expected u \(L, D\) .* got \(0, 4\)"),
        ((5, D), D, "channel: expected at most 3, got 4"),
        ((M + 1, D), 0, "the input is 25 long but max_length is 24"),
    ],
)
def test_inputs_that_cannot_be(shape: tuple[int, ...], channel: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        hyena_matrix(make(2), torch.zeros(shape, dtype=torch.float64), channel)


def test_a_longer_input_by_the_filters_policy(generator: torch.Generator) -> None:
    filter = HyenaFilter(D, M, length_policy="interpolate", dtype=torch.float64)
    op, u = make(2, filter=filter), draw(generator, 2 * M, D)
    assert_close(output(op, u), op(u[None])[0], 1e-12)
