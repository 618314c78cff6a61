"""The windowed last layer by parts, against its definition."""

import pytest
import torch
from comparison import assert_all_close, assert_close, with_gradients
from torch import Tensor

from hyena.filters import parts
from hyena.filters.network import windowed

L = 1100


@pytest.fixture(params=[True, False], ids=["even", "any times"])
def even(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.fixture(params=[0.0, 0.05])
def shift(request: pytest.FixtureRequest) -> float:
    return request.param


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of 512 positions."""
    monkeypatch.setattr(parts, "PART_ELEMENTS", 1)


def times(length: int, even: bool) -> Tensor:
    time = torch.arange(length, dtype=torch.float64) / L
    return time if even else (time - 0.3) ** 3


def draw(generator: torch.Generator, length: int = L) -> list[Tensor]:
    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return [normal(3, 4), normal(4, length), 0.5 + normal(3).abs()]


class Both:
    """The function and its definition at the same times and shift."""

    def __init__(self, length: int, even: bool, shift: float = 0.05) -> None:
        self.time, self.even, self.shift = times(length, even), even, shift

    def ours(self, weight: Tensor, x: Tensor, decay: Tensor) -> Tensor:
        return windowed(weight, x, decay, self.time, self.shift, even=self.even)

    def definition(self, weight: Tensor, x: Tensor, decay: Tensor) -> Tensor:
        return weight @ x * (torch.exp(-decay[:, None] * self.time.abs()) + self.shift)


@pytest.mark.parametrize("length", [2, 63, 64, 65, 512, 513, L])
@pytest.mark.usefixtures("small_parts")
def test_equals_the_definition(
    length: int, even: bool, shift: float, generator: torch.Generator
) -> None:
    both, inputs = Both(length, even, shift), draw(generator, length)
    expected = with_gradients(both.definition, *inputs)
    assert_all_close(with_gradients(both.ours, *inputs), expected, 1e-14)
    with torch.no_grad():
        assert_close(both.ours(*inputs), expected[0], 1e-14)


@pytest.mark.usefixtures("small_parts")
def test_gradients_of_some_inputs(even: bool, generator: torch.Generator) -> None:
    both, inputs = Both(L, even), draw(generator)
    for wanted in range(3):
        leaves = [x.clone().requires_grad_(i == wanted) for i, x in enumerate(inputs)]
        got = torch.autograd.grad(both.ours(*leaves).pow(2).sum(), leaves[wanted])
        expected = torch.autograd.grad(both.definition(*leaves).pow(2).sum(), leaves[wanted])
        assert_all_close(got, expected, 1e-14)


def test_a_product_of_exponentials_is_accurate_in_float32() -> None:
    decay = torch.linspace(3.0, 15.0, 7)
    time = torch.arange(5000) / 4999
    ones = torch.ones(7, 1), torch.ones(1, 5000)
    exact = torch.exp(-decay.double()[:, None] * (torch.arange(5000).double() / 4999))
    for even in (True, False):
        window = windowed(*ones, decay, time, 0.0, even=even)
        assert_close(window, exact, 2e-7, dtype=torch.float32)
        assert float((window / exact - 1).abs().max()) < 1.5e-6


def test_a_window_that_closes_is_zero() -> None:
    time = torch.arange(5000.0)
    window = windowed(
        torch.ones(1, 1), torch.ones(1, 5000), torch.tensor([40.0]), time, 0.0, even=True
    )
    assert window[0, 0] == 1
    assert not window[0, 3:].any()


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # PyTorch's own use
@pytest.mark.usefixtures("small_parts")
def test_derivatives_of_every_kind(even: bool, generator: torch.Generator) -> None:
    both, leaves = Both(600, even), [x.requires_grad_() for x in draw(generator, 3)]

    def few(weight: Tensor, x: Tensor, decay: Tensor) -> Tensor:
        """600 positions, two parts, of three values."""
        y = both.ours(weight, x.repeat_interleave(200, 1), decay)
        return y.unflatten(1, (3, 200)).mean(-1)

    assert torch.autograd.gradcheck(few, leaves, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(few, leaves)


def test_a_long_window_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, x = torch.ones(3, 4, requires_grad=True), torch.ones(4, L)
    for size, by_parts in ((3 * 2048, False), (3 * 512, True)):
        monkeypatch.setattr(parts, "PART_ELEMENTS", size)
        h = windowed(weight, x, torch.ones(3), torch.arange(float(L)), 0.0, even=True)
        assert (type(h.grad_fn) is parts.ByParts._backward_cls) == by_parts


@pytest.mark.parametrize("mapped", [(0, None, None), (None, None, 0), (0, 1, 0)])
@pytest.mark.usefixtures("small_parts")
def test_vmap(mapped: tuple[int | None, ...], even: bool, generator: torch.Generator) -> None:
    both = Both(L, even)
    pairs = zip(draw(generator), mapped, strict=True)
    inputs = [x if dim is None else torch.stack([x, 2 * x], dim) for x, dim in pairs]
    got = torch.func.vmap(both.ours, mapped)(*inputs)
    assert_close(got, torch.func.vmap(both.definition, mapped)(*inputs), 1e-14)

    def gradient(function: object, *inputs: Tensor) -> tuple[Tensor, ...]:
        return torch.func.grad(lambda *x: function(*x).pow(2).sum(), (0, 1, 2))(*inputs)

    got = torch.func.vmap(lambda *x: gradient(both.ours, *x), mapped)(*inputs)
    expected = torch.func.vmap(lambda *x: gradient(both.definition, *x), mapped)(*inputs)
    assert_all_close(got, expected, 1e-13)
