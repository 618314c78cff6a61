"""AFT-conv against its definition as a softmax with biases, and what it promises beyond that."""

import copy

import pytest
import torch
from comparison import assert_close, with_module_gradients
from rival_definitions import aft_conv
from torch import Tensor

from hyena.mixers import AFTConv

D = 8


def make(
    taps: int = 5, *, seed: int | None = 3, dtype: torch.dtype = torch.float64, **options: str
) -> AFTConv:
    """With biases that matter, unless the seed is None."""
    op = AFTConv(D, taps=taps, dtype=dtype, **options)
    if seed is not None:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            op.in_proj.weight.mul_(3)
            op.gain.normal_(generator=generator)
            op.offset.normal_(generator=generator)
    return op


def draw(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("taps", [1, 2, 5, 40])
@pytest.mark.parametrize("L", [1, 2, 7, 33])
def test_equals_the_definition_with_every_gradient(
    L: int, taps: int, generator: torch.Generator
) -> None:
    op, u = make(taps), draw(generator, 2, L, D)
    expected = with_module_gradients(op, lambda u: aft_conv(op, u), u)
    got = with_module_gradients(op, op, u)
    names = ["y", "u", *(name for name, _ in op.named_parameters())]
    for name, a, b in zip(names, got, expected, strict=True):
        # Where the window holds everything the offset changes nothing, nor does one tap alone a
        # direction, nor any bias a single token: these gradients are rounding.
        rounding = (name == "offset" and taps >= L) or (
            name in ("direction", "gain") and (taps == 1 or L == 1)
        )
        if rounding:
            assert float((a - b).norm()) < 1e-13
        else:
            assert_close(a, b, 1e-10)


@pytest.mark.parametrize("size", [50.0, 1e4])
def test_keys_and_biases_of_any_size(size: float, generator: torch.Generator) -> None:
    op, u = make(), draw(generator, 2, 40, D)
    with torch.no_grad():
        op.in_proj.weight[D : 2 * D].mul_(size)
        op.offset.fill_(-12.0)  # as a correction of the unbiased sum, these would cancel in float32
        assert_close(op(u), aft_conv(op, u), 1e-9)
        narrow = copy.deepcopy(op).float()
        # The projection rounds large keys in float32, so the definition is given the same ones.
        _, k, v = narrow.in_proj(u.float()).chunk(3, dim=-1)
        y, _, _ = narrow._average(k, v, None)
        exact, _, _ = op._average(k.double(), v.double(), None)
        assert_close(y, exact, 1e-5, dtype=torch.float32)


def test_it_begins_as_a_mean_over_the_whole_past(generator: torch.Generator) -> None:
    op, u = make(seed=None), draw(generator, 2, 20, D)
    q, k, v = op.in_proj(u).chunk(3, dim=-1)
    weights = k.exp()
    mean = (weights * v).cumsum(1) / weights.cumsum(1)
    assert_close(op(u), op.out_proj(q.sigmoid() * mean), 1e-12)
    assert float(op.direction.detach().std()) > 0.5
