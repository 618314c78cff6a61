"""The norm of the root mean square: its definition, its epsilon, its precision."""

from typing import Any

import pytest
import torch
from comparison import assert_close, relative_error, with_module_gradients
from torch import Tensor, nn
from torch.func import grad, jvp, vmap

from hyena.model.norm import RMSNorm, is_known, normalize

WIDTH = 7


def made(eps: float = 0.1, dtype: torch.dtype = torch.float64) -> RMSNorm:
    norm = RMSNorm(WIDTH, eps, dtype=dtype)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        norm.weight.add_(torch.randn(WIDTH, generator=generator))
    return norm


def some(*shape: int) -> Tensor:
    return torch.randn(*shape, WIDTH, generator=torch.Generator().manual_seed(2)).double()


def definition(norm: RMSNorm, x: Tensor) -> Tensor:
    rows = []
    for row in x.reshape(-1, WIDTH):
        size = torch.stack([number**2 for number in row]).sum().sqrt() * WIDTH**-0.5
        rows.append(torch.stack([number / (size + norm.eps) for number in row]) * norm.weight)
    return torch.stack(rows).view(x.shape)


@pytest.mark.parametrize("shape", [(3,), (2, 5), (1, 1)])
def test_it_and_its_gradients_are_the_definition(shape: tuple[int, ...]) -> None:
    norm, x = made(), some(*shape)
    got = with_module_gradients(norm, norm, x)
    expected = with_module_gradients(norm, lambda x: definition(norm, x), x)
    assert len(got) == 3
    for a, b in zip(got, expected, strict=True):
        assert_close(a, b, 1e-13)


def test_without_gradients_it_is_the_same() -> None:
    norm, x = made(), some(2, 5)
    before, expected = x.clone(), norm(x).detach()
    with torch.no_grad():
        assert torch.equal(norm(x), expected)
    assert torch.equal(x, before)


def test_gradients_have_gradients() -> None:
    norm, x = made(), some(2).requires_grad_()
    assert torch.autograd.gradcheck(norm, x)
    assert torch.autograd.gradgradcheck(norm, x)


def test_the_epsilon_is_beside_the_root() -> None:
    norm, x = made(1e-2), 1e-2 * some(4)
    with torch.no_grad():
        under = nn.RMSNorm(WIDTH, eps=1e-2, dtype=torch.float64)
        under.weight.copy_(norm.weight)
        assert relative_error(under(x), norm(x)) > 0.1
    ones = torch.full((1, WIDTH), 0.25, dtype=torch.float64)
    assert_close(norm(ones), 0.25 / (0.25 + 1e-2) * norm.weight[None], 1e-14)


@pytest.mark.parametrize("eps", [1e-5, 0.1])
def test_zeros_stay_zeros_and_have_finite_gradients(eps: float) -> None:
    norm, x = made(eps), torch.zeros(2, WIDTH, dtype=torch.float64, requires_grad=True)
    y = norm(x)
    y.sum().backward()
    assert not y.any()
    assert x.grad is not None
    assert_close(x.grad, norm.weight.detach().expand(2, -1) / eps, 1e-14)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_numbers_are_summed_in_float32(dtype: torch.dtype) -> None:
    norm, x = made().to(dtype), (300 * some(4)).to(dtype)  # whose squares float16 does not hold
    with torch.no_grad():
        y = norm(x)
        assert_close(y.double(), definition(norm.double(), x.double()), 5e-3)
    assert y.dtype == dtype


@pytest.mark.parametrize("weight", [torch.float32, torch.bfloat16, torch.float64])
@torch.no_grad()
def test_in_a_model_it_is_in_the_residuals_dtype(weight: torch.dtype) -> None:
    """And the result is what the layers after it take."""
    x, norm = some(2, 5).float(), made().to(weight)
    y = normalize(norm, x, nn.Identity())
    expected = definition(norm.double(), x.double())
    assert y.dtype == weight
    assert_close(y.double(), expected, 3e-3 if weight == torch.bfloat16 else 1e-6)


@pytest.mark.cpu
@torch.no_grad()
def test_autocast_leaves_it_alone() -> None:
    norm, x = made(), some(2, 5)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(normalize(norm, x, norm), norm(x))
        y = normalize(norm.float(), x.float(), norm)
    assert y.dtype == torch.float32
    assert_close(y, definition(norm, x.float()), 1e-6)


def test_hooks_on_it_count() -> None:
    norm, x = made(), some(2, 5)
    expected = 2 * norm(x)
    assert is_known(norm)
    norm.register_forward_hook(lambda module, inputs, output: 2 * output)
    assert not is_known(norm)
    assert_close(normalize(norm, x, norm).detach(), expected.detach(), 1e-14)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # of jvp itself
def test_transforms_of_functions() -> None:
    norm, x = made(), some(3, 2)
    each = vmap(grad(lambda x: norm(x).square().sum()))(x)
    leaf = x.clone().requires_grad_()
    norm(leaf).square().sum().backward()
    assert leaf.grad is not None
    assert_close(each, leaf.grad, 1e-13)
    tangent = some(3, 2).flip(0)
    _, found = jvp(norm, (x,), (tangent,))
    step = 1e-6
    difference = (norm(x + step * tangent) - norm(x - step * tangent)) / (2 * step)
    assert_close(found.detach(), difference.detach(), 1e-8)


@pytest.mark.parametrize("shape", [(0,), (2, 0)])
def test_of_no_position(shape: tuple[int, ...]) -> None:
    assert made()(torch.zeros(*shape, WIDTH).double()).shape == (*shape, WIDTH)


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
def test_it_compiles_whole() -> None:
    torch.compiler.reset()
    norm, x = made(), some(2, 5)
    compiled: Any = torch.compile(norm, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        assert_close(compiled(x), norm(x), 1e-14)
    assert_close(compiled(x).detach(), norm(x).detach(), 1e-14)


def test_what_it_says_of_itself() -> None:
    assert repr(RMSNorm(8, 1e-6)) == "RMSNorm(width=8, eps=1e-06)"
    assert list(RMSNorm(8).state_dict()) == ["weight"]
    assert RMSNorm(8).eps == 1e-5
