"""The Hyena operator under what looks at it from outside: torch.func, tracers, second gradients."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from comparison import assert_close
from torch import Tensor, nn

from hyena import HyenaOperator
from hyena.filters import ExplicitTaps, LongFilter
from hyena.ops import backends

D, L = 4, 24
BACKENDS = ["auto", *(b for b in backends() if b != "naive")]


def operator(backend: Any = "auto", **options: Any) -> HyenaOperator:
    return HyenaOperator(D, 32, backend=backend, **options).eval()


def of_taps() -> HyenaOperator:
    return operator(filter=LongFilter(ExplicitTaps(D, 32), D, 32))


MAKERS: list[Callable[[], HyenaOperator]] = [
    operator,
    lambda: operator(order=3),
    lambda: operator(bidirectional=True),
    of_taps,
]


def frozen(module: nn.Module) -> nn.Module:
    return module.requires_grad_(False)


@pytest.mark.parametrize("first", ["plain", "transformed"])
@pytest.mark.parametrize("make", MAKERS)
def test_torch_func_after_plain_calls_and_before(
    make: Callable[[], HyenaOperator], first: str, generator: torch.Generator
) -> None:
    """Neither reads what the other keeps."""
    op = make()
    frozen(op)
    u = torch.randn(3, 2, L, D, generator=generator)
    fresh = make()
    fresh.load_state_dict(op.state_dict())
    with torch.no_grad():
        expected = torch.stack([fresh(row) for row in u])
        if first == "plain":
            op(u[0])
        assert_close(torch.func.vmap(op)(u), expected, 1e-6)
        jacobian = torch.func.jacrev(lambda x: op(x[None])[0].sum(0))(u[0, 0])
        assert jacobian.shape == (D, L, D)
        assert_close(op(u[0]), expected[0], 1e-6)
    leaf = u[0, 0].clone().requires_grad_()
    for i in range(D):
        [row] = torch.autograd.grad(op(leaf[None])[0].sum(0)[i], leaf)
        assert_close(jacobian[i], row, 1e-5)
    assert_close(torch.func.grad(lambda x: op(x).sum())(leaf[None])[0], jacobian.sum(0), 1e-5)


def test_generation_under_torch_func(generator: torch.Generator) -> None:
    op = operator()
    frozen(op)
    u = torch.randn(2, 3, 5, D, generator=generator)

    def steps(u: Tensor) -> Tensor:
        _, state = op.prefill(u[:, :-1])
        return op.step(u[:, -1], state)[0]

    expected = torch.stack([steps(x) for x in u])
    assert_close(torch.func.vmap(steps)(u), expected, 1e-6)
    assert_close(torch.stack([steps(x) for x in u]), expected, 1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", [{}, {"order": 3}, {"bidirectional": True}])
def test_gradients_of_gradients_through_a_frozen_operator(
    options: dict[str, Any], backend: Any, generator: torch.Generator
) -> None:
    """Whose filter's spectrum is kept."""
    op = operator(backend, **options)
    frozen(op)
    u = torch.randn(2, L, D, generator=generator)

    def penalty(op: nn.Module, u: Tensor) -> Tensor:
        leaf = u.clone().requires_grad_()
        [first] = torch.autograd.grad(op(leaf).pow(2).sum(), leaf, create_graph=True)
        return torch.autograd.grad(first.pow(2).sum(), leaf)[0]

    found = penalty(op, u)
    wide = operator("torch", **options)
    wide.load_state_dict(op.state_dict())
    assert_close(found, penalty(frozen(wide.double()), u.double()), 1e-4, dtype=torch.float32)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("make", ["eval", "train"])
def test_traced_by_jit(make: str, backend: Any, generator: torch.Generator) -> None:
    """The trace holds the operations, and not the numbers of one input or one processor."""
    op = operator(backend).train(make == "train")
    u = torch.randn(2, L, D, generator=generator)
    with torch.no_grad():
        op(u)
        traced = torch.jit.trace(op, (u,))
        assert_close(traced(u + 1), op(u + 1), 1e-6)
        for parameter in op.parameters():  # which the trace shares
            parameter.mul_(1.1)
        assert_close(traced(u), op(u), 1e-6)
    if make == "train":
        traced(u).sum().backward()
        assert all(p.grad is not None for p in op.parameters() if p.requires_grad)
