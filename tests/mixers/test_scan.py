"""Scans against loops over the positions, and how many operations they take."""

from typing import Any

import pytest
import torch
from comparison import assert_all_close, assert_close, relative_error, with_gradients
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from hyena.mixers.rivals.scans.scan import linear_scan, previous, running_max, starts_of
from hyena.ops import Segments

LENGTHS = [*range(1, 20), 24, 25, 26, 48, 49, 50, 120, 121, 122]


def draw(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def loop(x: Tensor, a: Tensor) -> Tensor:
    """h_t = a_t h_{t−1} + x_t, one position after the other."""
    h, outputs = torch.zeros_like(x[..., 0, :]), []
    for t in range(x.shape[-2]):
        h = a[..., t, :] * h + x[..., t, :]
        outputs.append(h)
    return torch.stack(outputs, dim=-2)


@pytest.mark.parametrize("L", LENGTHS)
def test_a_scan_is_a_loop_with_every_gradient(L: int, generator: torch.Generator) -> None:
    x = draw(generator, 2, 3, L, 4)
    for shape in ((2, 3, L, 4), (3, L, 4), (2, 1, L, 1)):
        a = torch.rand(shape, generator=generator, dtype=torch.float64)
        a[..., L // 2, :] = 0  # what came before is forgotten
        expected = with_gradients(loop, x, a)
        if L == 1:  # nothing came before, so a has no effect
            assert not expected.pop().any()
        assert_all_close(with_gradients(linear_scan, x, a)[: len(expected)], expected, 1e-13)


def test_second_derivatives(generator: torch.Generator) -> None:
    x = draw(generator, 1, 7, 2).requires_grad_()
    a = torch.rand(1, 7, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(linear_scan, (x, a))


def test_strides_do_not_matter(generator: torch.Generator) -> None:
    x, a = draw(generator, 2, 5, 30).transpose(1, 2), draw(generator, 30, 5).expand(2, 30, 5)
    assert_close(linear_scan(x, a), loop(x, a), 1e-13)


def test_nothing_to_scan() -> None:
    for shape in ((2, 0, 3), (0, 4, 3)):
        x = torch.zeros(shape, requires_grad=True)
        h = linear_scan(x, torch.ones(shape))
        h.sum().backward()
        assert x.grad is not None
        assert h.shape == x.grad.shape == shape
        assert running_max(x, None).shape == shape
        assert previous(x, None).shape == shape


@pytest.mark.parametrize("L", LENGTHS)
def test_a_running_maximum_is_a_loop(L: int, generator: torch.Generator) -> None:
    keys = draw(generator, 2, L, 3)
    decay = torch.tensor([0.0, 0.3, 20.0], dtype=torch.float64)
    starts = torch.rand(2, L, 1, generator=generator) < 0.2
    starts[:, 0] = True
    top, expected = keys[:, 0], [keys[:, 0]]
    for t in range(1, L):
        top = torch.where(starts[:, t], keys[:, t], torch.maximum(keys[:, t], top - decay))
        expected.append(top)
    assert_close(running_max(keys, starts, decay), torch.stack(expected, dim=1), 1e-14)
    assert torch.equal(running_max(keys, None), keys.cummax(1).values)


def test_a_running_maximum_has_no_gradient(generator: torch.Generator) -> None:
    keys = draw(generator, 1, 5, 2).requires_grad_()
    assert not running_max(keys, None, torch.ones(2, requires_grad=True)).requires_grad


def test_what_stood_before(generator: torch.Generator) -> None:
    x = draw(generator, 1, 6, 2)
    segments = Segments.from_document_ids(torch.tensor([[4, 4, 4, 1, 1, 2]]))
    starts = starts_of(segments)
    assert starts is not None
    assert starts[0, :, 0].tolist() == [True, False, False, True, False, True]
    assert starts_of(None) is None
    got = previous(x, starts, -7.0)
    assert torch.equal(got[:, [1, 2, 4]], x[:, [0, 1, 3]])
    assert bool((got[:, [0, 3, 5]] == -7).all())
    assert torch.equal(previous(x, None), torch.cat([torch.zeros(1, 1, 2), x[:, :-1]], dim=1))


def test_long_sums_are_precise() -> None:
    # One after the other in float32, these additions would be off by 6e-4.
    L = 1 << 17
    sums = linear_scan(torch.full((1, L, 1), 0.1), torch.ones(1, L, 1))
    exact = torch.arange(1, L + 1, dtype=torch.float64)[None, :, None] * 0.1
    assert relative_error(sums, exact) < 5e-6


class Count(TorchDispatchMode):
    """Counts the operations that are run."""

    operations = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.operations += 1
        return func(*args, **(kwargs or {}))


def test_operations_grow_with_the_root_of_the_length() -> None:
    def count(L: int) -> int:
        x = torch.zeros(1, L, 1, requires_grad=True)
        with Count() as counted:
            linear_scan(x, torch.ones(1, L, 1)).sum().backward()
            running_max(x, None)
        return counted.operations

    assert count(1 << 17) < 4.1 * count(1 << 13) < 30_000
