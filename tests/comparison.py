"""How tests compare tensors: the relative L2 error of the whole, never element by element."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


def relative_error(got: Tensor, expected: Tensor) -> float:
    """‖got − expected‖ / ‖expected‖, in float64 on the CPU."""
    got, expected = (x.detach().cpu().double() for x in (got, expected))
    return float((got - expected).norm() / expected.norm())


def assert_close(
    got: Tensor, expected: Tensor, tolerance: float, *, dtype: torch.dtype | None = None
) -> None:
    """Fails unless ``got`` is ``expected`` up to a relative L2 error of ``tolerance``.

    Shape and dtype must agree too (``dtype`` stands for the expected one where ``expected`` is more
    precise). Values that are not finite fail, and so does an ``expected`` of zeros, against which
    nothing is close. Empty tensors need only agree in shape and dtype.
    """
    assert got.shape == expected.shape, f"shape {tuple(got.shape)}, not {tuple(expected.shape)}"
    wanted = expected.dtype if dtype is None else dtype
    assert got.dtype == wanted, f"dtype {got.dtype}, not {wanted}"
    if expected.numel() == 0:
        return
    assert bool(expected.isfinite().all()), "what was expected is not finite"
    assert bool(expected.any()), "what was expected is all zeros, so nothing is compared"
    assert bool(got.isfinite().all()), f"{int((~got.isfinite()).sum())} values are not finite"
    error = relative_error(got, expected)
    assert error <= tolerance, f"relative L2 error {error:.2e} > {tolerance:.0e}"


def with_gradients(f: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
    """f(*inputs) and the gradient of each input, for one fixed random gradient of the output."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    y = f(*leaves)
    dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return [y.detach(), *torch.autograd.grad(y, leaves, dy.to(y))]


def assert_all_close(
    got: Sequence[Tensor],
    expected: Sequence[Tensor],
    tolerance: float,
    *,
    dtype: torch.dtype | None = None,
) -> None:
    """`assert_close` of each in turn."""
    assert len(got) == len(expected)
    for index, (a, b) in enumerate(zip(got, expected, strict=True)):
        try:
            assert_close(a, b, tolerance, dtype=dtype)
        except AssertionError as error:
            raise AssertionError(f"tensor {index}: {error}") from None


def with_module_gradients(
    module: nn.Module, f: Callable[[Tensor], Tensor], u: Tensor
) -> list[Tensor]:
    """f(u), which calls ``module``, and the gradients of u and of every trained parameter."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    leaf = u.detach().clone().requires_grad_()
    y = f(leaf)
    dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return [y.detach(), *torch.autograd.grad(y, [leaf, *parameters], dy.to(y))]
