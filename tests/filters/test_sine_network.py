"""The sine network by parts, recomputed or not, against itself in one go."""

import pytest
import torch
from comparison import assert_all_close, assert_close, with_gradients
from torch import Tensor

from hyena.filters import network, parts
from hyena.filters.network import sine_network

L = 1100


def draw(
    generator: torch.Generator, length: int = L, widths: tuple[int, int, int] = (3, 5, 4)
) -> list[Tensor]:
    a, b, c = widths
    shapes = [(a, length), (b, a), (b,), (c, b), (c,)]
    return [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]


def definition(x: Tensor, *flat: Tensor) -> Tensor:
    for weight, bias in zip(flat[::2], flat[1::2], strict=True):
        x = torch.sin(weight @ x + bias[:, None])
    return x


def by_parts(x: Tensor, *flat: Tensor) -> Tensor:
    return sine_network(x, list(zip(flat[::2], flat[1::2], strict=True)))


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of 512 positions, and nothing kept for the backward pass."""
    monkeypatch.setattr(parts, "PART_ELEMENTS", 1)
    monkeypatch.setattr(network, "VALUES_BYTES", 0)


@pytest.mark.parametrize("length", [1, 511, 512, 513, L])
@pytest.mark.usefixtures("small_parts")
def test_equals_the_definition(length: int, generator: torch.Generator) -> None:
    inputs = draw(generator, length)
    assert_all_close(with_gradients(by_parts, *inputs), with_gradients(definition, *inputs), 1e-14)
    assert_close(by_parts(*inputs), definition(*inputs), 1e-14)
    with torch.no_grad():
        assert_close(by_parts(*inputs), definition(*inputs), 1e-14)


@pytest.mark.usefixtures("small_parts")
def test_gradients_of_some_inputs(generator: torch.Generator) -> None:
    inputs = draw(generator)
    for wanted in range(len(inputs)):
        leaves = [x.clone().requires_grad_(i == wanted) for i, x in enumerate(inputs)]
        for function in (by_parts, definition):
            function(*leaves).pow(2).sum().backward()
        assert all((x.grad is not None) == (i == wanted) for i, x in enumerate(leaves))


def test_keeps_only_its_inputs_when_long(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, bias = torch.ones(5, 3, requires_grad=True), torch.ones(5)
    bytes_kept = 2 * 5 * 4 * L
    for limit, recomputed in ((bytes_kept, False), (bytes_kept - 1, True)):
        monkeypatch.setattr(network, "VALUES_BYTES", limit)
        y = sine_network(torch.ones(3, L), [(weight, bias)])
        assert (type(y.grad_fn) is parts.ByParts._backward_cls) == recomputed


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # PyTorch's own use
@pytest.mark.usefixtures("small_parts")
def test_derivatives_of_every_kind(generator: torch.Generator) -> None:
    leaves = [x.requires_grad_() for x in draw(generator, 3, (2, 3, 1))]

    def few(x: Tensor, *flat: Tensor) -> Tensor:
        """600 positions, two parts, of three values."""
        return by_parts(x.repeat_interleave(200, 1), *flat).unflatten(1, (3, 200)).mean(-1)

    assert torch.autograd.gradcheck(few, leaves, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(few, leaves)


@pytest.mark.parametrize("mapped", [(0, None, None, None, None), (None, 0, None, None, 0)])
@pytest.mark.usefixtures("small_parts")
def test_vmap(mapped: tuple[int | None, ...], generator: torch.Generator) -> None:
    pairs = zip(draw(generator), mapped, strict=True)
    inputs = [x if dim is None else torch.stack([x, 2 * x]) for x, dim in pairs]

    def gradient(function: object, *inputs: Tensor) -> tuple[Tensor, ...]:
        return torch.func.grad(lambda *x: function(*x).pow(2).sum(), (0, 1, 2, 3, 4))(*inputs)

    for gradients in (True, False):
        with torch.set_grad_enabled(gradients):
            got = torch.func.vmap(by_parts, mapped)(*inputs)
            assert_close(got, torch.func.vmap(definition, mapped)(*inputs), 1e-14)
    got = torch.func.vmap(lambda *x: gradient(by_parts, *x), mapped)(*inputs)
    expected = torch.func.vmap(lambda *x: gradient(definition, *x), mapped)(*inputs)
    assert_all_close(got, expected, 1e-13)
