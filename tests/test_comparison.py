"""The comparison that every numerical test leans on fails when it must."""

import pytest
import torch
from comparison import assert_all_close, assert_close, relative_error, with_gradients
from torch import Tensor

LOOSEST = 0.1  # no test in this suite allows more


@pytest.fixture
def expected(generator: torch.Generator) -> Tensor:
    return torch.randn(2, 3, 50, generator=generator)


def test_equal_and_nearly_equal_tensors_pass(expected: Tensor) -> None:
    assert_close(expected.clone(), expected, 0.0)
    assert_close(expected * (1 + 1e-6), expected, 2e-6)
    assert_close(expected.bfloat16(), expected, 1e-2, dtype=torch.bfloat16)
    assert_close(torch.zeros(2, 0), torch.zeros(2, 0), 0.0)


def test_the_error_is_relative_to_the_whole(expected: Tensor) -> None:
    assert relative_error(expected * 1.01, expected) == pytest.approx(0.01, rel=1e-4)
    assert relative_error(expected * 101, expected * 100) == pytest.approx(0.01, rel=1e-4)


def spoilt(expected: Tensor, where: int, value: float) -> Tensor:
    got = expected.clone()
    got.view(-1)[where] = value
    return got


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (torch.zeros_like, "relative L2 error 1.00e"),
        (lambda x: x.roll(1, -1), "relative L2 error"),
        (lambda x: x.roll(-1, -1), "relative L2 error"),
        (lambda x: x.roll(1, 1), "relative L2 error"),
        (lambda x: -x, "relative L2 error 2.00e"),
        (lambda x: x * 1.2, "relative L2 error 2.00e-01"),
        (lambda x: spoilt(x, 7, float("nan")), "1 values are not finite"),
        (lambda x: spoilt(x, 7, float("inf")), "1 values are not finite"),
        (lambda x: x[..., :-1], "shape"),
        (lambda x: x[:1], "shape"),
        (lambda x: x.double(), "dtype"),
        (lambda x: x.bfloat16(), "dtype"),
    ],
)
def test_a_wrong_tensor_fails(expected: Tensor, spoil, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        assert_close(spoil(expected), expected, LOOSEST)


def test_nothing_is_close_to_zeros_or_to_nan() -> None:
    with pytest.raises(AssertionError, match="all zeros"):
        assert_close(torch.zeros(3), torch.zeros(3), LOOSEST)
    with pytest.raises(AssertionError, match="what was expected is not finite"):
        assert_close(torch.ones(3), torch.full((3,), float("nan")), LOOSEST)


def test_gradients_of_every_input_are_returned(expected: Tensor) -> None:
    weight = torch.tensor(3.0)
    y, du, dw = with_gradients(lambda u, w: u * w, expected, weight)
    assert_close(y, 3 * expected, 1e-6)
    assert_close(dw, (du / 3 * expected).sum(), 1e-5)


def test_one_wrong_tensor_of_many_fails(expected: Tensor) -> None:
    many = [expected, expected + 1, expected + 2]
    assert_all_close(many, many, 0.0)
    with pytest.raises(AssertionError, match="tensor 1: relative L2 error"):
        assert_all_close([many[0], many[0], many[2]], many, LOOSEST)
    with pytest.raises(AssertionError):
        assert_all_close(many[:2], many, LOOSEST)
