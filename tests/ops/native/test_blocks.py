"""What a block does after its mixer, in one call of the kernel, against float64."""

import pytest
import torch
from comparison import assert_close
from torch import Tensor, nn
from torch.nn import functional as F

from hyena.ops.native import library
from hyena.ops.native.block import LayerNorm, Layers, after_mixer, takes
from hyena.ops.native.linear import MOST_ROWS

SIZES = [(1, 1), (3, 2), (16, 64), (17, 33), (131, 40), (300, 1030)]  # D, H
# Relative L2 errors of what is added to the residual, against float64. Measured: up to 3.1e-7, with
# the portable build. Weights of 16 bits are the same numbers in the definition, and nothing between
# them is rounded to their dtype.
TOLERANCE = 6e-7
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
ALL = pytest.mark.usefixtures("isa", "poisoned", "two_threads")


def draw(B: int, D: int, H: int, dtype: torch.dtype = torch.float32, beside: bool = True):
    """x and mixed (B, D), and a block's layers."""
    generator = torch.Generator().manual_seed(D)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    x, mixed = 3 * normal(B, D) + 1, normal(B, D)
    norms = [LayerNorm(normal(D).to(dtype), normal(D).to(dtype), eps) for eps in (1e-5, 0.1)]
    up, down = ((normal(a, b) / b**0.5).to(dtype) for a, b in ((H, D), (D, H)))
    biases = (normal(H).to(dtype), normal(D).to(dtype)) if beside else (None, None)
    return x, mixed, Layers(*norms, (up, biases[0]), (down, biases[1]))


def definition(x: Tensor, mixed: Tensor, layers: Layers) -> tuple[Tensor, Tensor]:
    """The residual after the mixer, and what the MLP adds to it, in float64."""
    _, (weight, bias, epsilon), up, down = layers
    r = x.double() + mixed.double()
    centred = r - r.mean(1, keepdim=True)
    u = centred / (centred.square().mean(1, keepdim=True) + epsilon).sqrt()
    h = linear(u * weight.double() + bias.double(), *up)
    activated = h / 2 * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (h + 0.044715 * h**3)))
    return r, linear(activated, *down)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    y = x @ weight.double().t()
    return y if bias is None else y + bias.double()


def finished(x: Tensor, mixed: Tensor, layers: Layers) -> Tensor:
    assert takes(x, layers)
    y = after_mixer(x, mixed, layers)
    assert y is not None
    return y


@ALL
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("beside", [True, False])
@pytest.mark.parametrize(("D", "H"), SIZES)
def test_it_is_its_definition(D: int, H: int, beside: bool, dtype: torch.dtype) -> None:
    for B in (1, 2, 3, MOST_ROWS):
        x, mixed, layers = draw(B, D, H, dtype, beside)
        before = x.clone()
        for narrow in DTYPES:
            of_mixer = mixed.to(narrow)
            y = finished(x, of_mixer, layers)
            r, added = definition(x, of_mixer, layers)
            assert_close(y.double(), r + added, TOLERANCE)
            # The residual is exact to its last bit, which the difference shows in what was added.
            room = 1e-7 * float(r.norm() / added.norm())
            assert_close(y.double() - r, added, TOLERANCE + room)
        assert torch.equal(x, before)


@ALL
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("D", "H"), SIZES)
def test_a_row_alone_is_that_of_any_batch(D: int, H: int, dtype: torch.dtype) -> None:
    x, mixed, layers = draw(MOST_ROWS, D, H, dtype)
    alone = torch.cat([finished(x[b : b + 1], mixed[b : b + 1], layers) for b in range(MOST_ROWS)])
    for B in range(1, MOST_ROWS + 1):
        assert torch.equal(finished(x[:B], mixed[:B], layers), alone[:B])


@pytest.mark.usefixtures("isa", "two_threads")
def test_the_number_of_threads_changes_no_bit() -> None:
    arguments = draw(3, 300, 2003)
    expected = finished(*arguments)
    for threads in (1, 5):
        torch.set_num_threads(threads)
        assert torch.equal(finished(*arguments), expected)


@ALL
def test_the_activation_is_that_of_pytorch_everywhere() -> None:
    """Through layers that pass everything on: it is the norm that scales."""
    h = torch.cat([torch.linspace(-12, 12, 4001), torch.tensor([0.0, -1e-30, 1e-30, 1e4, -1e4])])
    for scale in (1.0, 1e15):
        D = len(h)
        eye, zero = torch.eye(D), torch.zeros(D)
        one = LayerNorm(zero, scale * h, 1e-5)
        y = finished(zero[None], zero[None], Layers(one, one, (eye, None), (eye, None)))[0]
        expected = F.gelu((scale * h).double(), approximate="tanh")
        error = (y.double() - expected).abs()
        assert bool((error <= 3e-7 * (scale * h).abs()).all())
        # Where the tanh comes near -1, too, it is right relative to what is left.
        near = (scale * h).double()
        exact = near * torch.sigmoid(2 * (2 / torch.pi) ** 0.5 * (near + 0.044715 * near**3))
        kept = exact.abs() > 1e-30
        assert bool(((y.double() - exact).abs() <= 3e-5 * exact.abs())[kept].all())


@ALL
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_no_number_spreads(dtype: torch.dtype) -> None:
    for value in (float("nan"), float("inf"), -float("inf")):
        x, mixed, layers = draw(3, 40, 9, dtype)
        x[1, 39] = value
        y = finished(x, mixed, layers)
        assert bool(y[1].isnan().all())
        assert bool(y[[0, 2]].isfinite().all())


@ALL
def test_inputs_of_any_strides() -> None:
    x, mixed, layers = draw(6, 20, 7)
    expected = finished(x, mixed, layers)
    for other, beside in (
        (x.t().contiguous().t(), mixed),
        (x, mixed.t().contiguous().t()),
        (torch._neg_view(-x), torch._neg_view(-mixed)),
        (x.repeat_interleave(3, 1)[:, ::3], mixed.repeat_interleave(2, 0)[::2]),
    ):
        assert torch.equal(finished(other, beside, layers), expected)


def test_what_the_kernel_does_not_take() -> None:
    x, mixed, layers = draw(2, 6, 8)
    assert takes(x, layers)
    first, second, (up, bias), down = layers
    wide = LayerNorm(torch.ones(7), torch.ones(7), 1e-5)
    refused: list[tuple[Tensor, Layers]] = [
        (x.double(), layers),
        (x.bfloat16(), layers),
        (x[0], layers),
        (x[None], layers),
        (x.repeat(5, 1), layers),  # too many rows
        (x[:, :5], layers),
        (x.to("meta"), layers),
        (x.clone().requires_grad_(), layers),
        (x, layers._replace(before_mixer=wide)),
        (x, layers._replace(before_mlp=wide)),
        (x, layers._replace(before_mlp=second._replace(bias=second.bias.double()))),
        (x, layers._replace(before_mlp=second._replace(weight=second.weight[None]))),
        (x, layers._replace(before_mixer=first._replace(weight=first.weight.bfloat16()))),
        (x, layers._replace(up=(up.bfloat16(), bias))),
        (x, layers._replace(up=(up.repeat(1, 2), bias))),
        (x, layers._replace(up=(up.t().contiguous().t(), bias))),
        (x, layers._replace(up=(up[:7], bias))),
        (x, layers._replace(down=(down[0][:5], None))),
        (x, layers._replace(down=(up, None))),
        (x, layers._replace(down=(nn.Parameter(down[0]), None))),
    ]
    for u, other in refused:
        assert not takes(u, other), (u.shape, u.dtype, other)
    for of_mixer in (mixed[:1], mixed.double(), mixed.to("meta"), mixed.clone().requires_grad_()):
        assert after_mixer(x, of_mixer, layers) is None
    with torch.autocast("cpu", torch.bfloat16):
        assert not takes(x, layers)
    with torch.no_grad():
        assert takes(x, layers._replace(down=(nn.Parameter(down[0]), None)))
    with library.use("none"):
        assert not takes(x, layers)
