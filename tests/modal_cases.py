"""Inputs of the convolution with sums of exponentials, and its outputs with their gradients."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from comparison import assert_all_close
from torch import Tensor


def draw(
    generator: torch.Generator,
    B: int,
    D: int,
    L: int,
    n: int,
    kind: str,
    dtype: torch.dtype = torch.float64,
) -> list[Tensor]:
    """u of a dtype, and log_decay, weight, skip and state in float32, or float64 if that is it:
    modes that live for a position and such that live for a hundred."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(D, n, generator=generator, dtype=torch.float64)

    u, skip = normal(B, D, L), normal(D)
    log_decay, weight, state = -uniform(-4.5, 0.5).exp(), normal(D, n), normal(B, D, n)
    if kind == "complex":
        log_decay = torch.complex(log_decay, uniform(-3.1, 3.1))
        weight, state = torch.complex(weight, normal(D, n)), torch.complex(state, normal(B, D, n))
    wide = torch.promote_types(dtype, torch.float32)
    others = (x.to(wide.to_complex() if x.is_complex() else wide)
              for x in (log_decay, weight, skip, state))  # fmt: skip
    return [u.to(dtype), *others]


def without(inputs: Sequence[Tensor], absent: Sequence[int]) -> list[Any]:
    """The inputs, None in some places."""
    return [None if i in absent else x for i, x in enumerate(inputs)]


def parts(x: Tensor) -> Tensor:
    """Complex numbers as pairs of real ones."""
    return torch.view_as_real(x.resolve_conj()) if x.is_complex() else x


def with_gradients(
    op: Callable[..., tuple[Tensor, Tensor]], *inputs: Tensor | None, of_state: bool
) -> list[Tensor]:
    """y, the state after, and the gradients of the inputs that there are, real all of them, for one
    fixed random gradient of y, and one of the state if that is asked for."""
    leaves = [None if x is None else x.detach().clone().requires_grad_() for x in inputs]
    outputs = op(*leaves)[: 1 + of_state]
    random = torch.Generator().manual_seed(1)
    gradients = [torch.randn(x.shape, generator=random, dtype=torch.float64).to(x) for x in outputs]
    wanted = [x for x in leaves if x is not None]
    found = torch.autograd.grad(outputs, wanted, gradients)
    with torch.no_grad():
        y, after = op(*leaves)
    return [parts(x) for x in (y, after, *found)]


def assert_each_close(
    got: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float | Sequence[float]
) -> None:
    """`assert_close` of each in turn, in the dtype that was got; but zeros are exactly that."""
    if isinstance(tolerance, float):
        tolerance = [tolerance] * len(got)
    for index, (a, b, most) in enumerate(zip(got, expected, tolerance, strict=True)):
        if not bool(b.any()):
            assert not bool(a.any()), f"tensor {index} is not zero"
            continue
        assert_all_close([a], [b.to(a)], most)
