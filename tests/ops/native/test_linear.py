"""Linear layers on a few rows against the definition in float64."""

from typing import Any

import pytest
import torch
from comparison import assert_close
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils.flop_counter import FlopCounterMode

from hyena.ops.native import library
from hyena.ops.native.linear import MOST_ROWS, linear, takes

SIZES = [  # I, O
    (1, 1),
    (3, 2),
    (4, 5),
    (15, 4),
    (16, 16),
    (17, 33),
    (64, 3),
    (131, 257),
    (768, 50),
    (1536, 1001),
]
# Relative L2 errors against float64. Measured: up to 3.7e-7, at I = 1536 in the portable build, and
# 1.8e-7 with AVX-512; of 16 bits, whose outputs are rounded once, that rounding.
TOLERANCE = {torch.float32: 6e-7, torch.bfloat16: 4e-3, torch.float16: 5e-4}
DTYPES = list(TOLERANCE)
ALL = pytest.mark.usefixtures("isa", "poisoned", "two_threads")


def draw(B: int, I: int, O: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:  # noqa: E741
    generator = torch.Generator().manual_seed(I)
    shapes = [(B, I), (O, I), (O,)]
    x, weight, bias = (torch.randn(s, generator=generator).to(dtype) for s in shapes)
    return x, weight, bias


def definition(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    y = x.double() @ weight.double().t()
    return y if bias is None else y + bias.double()


@ALL
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("I", "O"), SIZES)
def test_a_layer_is_its_definition(I: int, O: int, dtype: torch.dtype) -> None:  # noqa: E741
    for B in range(1, MOST_ROWS + 1):
        x, weight, bias = draw(B, I, O, dtype)
        for beside in (bias, None):
            assert takes(x, weight, beside)
            y = linear(x, weight, beside)
            assert y.dtype == dtype
            assert_close(y.double(), definition(x, weight, beside), TOLERANCE[dtype])


@ALL
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("I", "O"), SIZES)
def test_a_row_alone_is_that_of_any_batch(I: int, O: int, dtype: torch.dtype) -> None:  # noqa: E741
    x, weight, bias = draw(MOST_ROWS, I, O, dtype)
    alone = [linear(row, weight, bias) for row in x.split(1)]
    for B in range(1, MOST_ROWS + 1):
        assert torch.equal(linear(x[:B], weight, bias), torch.cat(alone[:B]))
    part = slice(1, O // 2 + 1)  # nor do the other outputs matter
    assert torch.equal(linear(x, weight[part], bias[part]), torch.cat(alone)[:, part])


@pytest.mark.usefixtures("isa", "two_threads")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("B", [1, 3, 8])
def test_the_number_of_threads_changes_no_bit(B: int, dtype: torch.dtype) -> None:
    for size in (*SIZES, (300, 2003)):
        arguments = draw(B, *size, dtype)
        expected = linear(*arguments)
        for threads in (1, 5):
            torch.set_num_threads(threads)
            assert torch.equal(linear(*arguments), expected)
        torch.set_num_threads(2)


@ALL
@pytest.mark.parametrize("dtype", DTYPES)
def test_empty_ones(dtype: torch.dtype) -> None:
    x, weight, bias = draw(2, 5, 3, dtype)
    assert linear(x[:0], weight, bias).shape == (0, 3)
    assert linear(x, weight[:0], bias[:0]).shape == (2, 0)
    assert torch.equal(linear(x[:, :0], weight[:, :0].contiguous(), bias), bias.expand(2, 3))


@ALL
def test_inputs_of_any_strides() -> None:
    x, weight, bias = draw(6, 20, 7)
    expected = linear(x, weight, bias)
    for other in (
        x.t().contiguous().t(),
        x.repeat_interleave(2, 0)[::2],
        x.repeat_interleave(3, 1)[:, ::3],
        torch._neg_view(-x),
    ):
        assert takes(other, weight, bias)
        assert torch.equal(linear(other, weight, bias), expected)
    row = x[:1].expand(4, -1)
    assert torch.equal(linear(row, weight, bias), expected[:1].expand(4, -1))


@ALL
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_no_number_spreads(dtype: torch.dtype) -> None:
    x, weight, bias = draw(3, 40, 9, dtype)
    x[1, 39], weight[4, 0], bias[7] = float("nan"), float("inf"), float("nan")
    y = linear(x, weight, bias)
    assert y[1].isnan().all()
    assert not y[[0, 2]][:, 4].isfinite().any()
    assert y[:, 7].isnan().all()
    others = [c for c in range(9) if c not in (4, 7)]
    assert y[[0, 2]][:, others].isfinite().all()


class Own(torch.Tensor):
    pass


def test_what_the_kernel_does_not_take() -> None:
    x, weight, bias = draw(2, 6, 6)
    assert takes(x, weight, bias)
    assert takes(x, weight)
    double = [t.double() for t in (x, weight, bias)]
    wide = weight.repeat(1, 2)
    refused: list[tuple[Tensor, Tensor, Tensor | None]] = [
        (x.expand(5, 2, 6)[:, 0].repeat(2, 1), weight, bias),  # too many rows
        (x[0], weight, bias),
        (x[None], weight, bias),
        (x, weight.t(), bias),  # of the same shape and address
        (x, wide[:, :6], bias),
        (x, wide, bias),
        (x, weight[0], bias),
        (x, weight, bias[:5]),
        (x, weight, bias[:1]),
        (x, weight, bias[:1].expand(6)),
        (x, weight, bias[None]),
        (x, torch._neg_view(weight), bias),
        (x, weight, torch._neg_view(bias)),
        (x, weight.to_sparse(), bias),
        (x, weight.half(), bias),
        (x.bfloat16(), weight, bias),
        (x, weight, bias.half()),
        (double[0], double[1], double[2]),
        (x.to(torch.int32), weight.to(torch.int32), None),
        (x.to("meta"), weight.to("meta"), None),
        (x, weight.to("meta"), bias),
        (x, weight, bias.to("meta")),
        (x, weight.as_subclass(Own), bias),
        (x.as_subclass(Own), weight, bias),
        (x, weight.clone().requires_grad_(), bias),
        (x.clone().requires_grad_(), weight, bias),
        (x, weight, bias.clone().requires_grad_()),
    ]
    for arguments in refused:
        assert not takes(*arguments), [(t.shape, t.dtype) for t in arguments if t is not None]
    with torch.no_grad():
        assert takes(x, weight.clone().requires_grad_(), bias)
        assert takes(x, torch.nn.Parameter(weight), bias)
    with library.use("none"):
        assert not takes(x, weight, bias)
    assert takes(x, weight, bias)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_nor_where_something_looks_on() -> None:
    x, weight, bias = draw(2, 6, 6)
    seen: list[bool] = []

    def look(x: Tensor) -> Tensor:
        seen.append(takes(x, weight, bias))
        return x

    with torch.autocast("cpu", torch.bfloat16):
        look(x)
    torch.vmap(look)(x[None])
    torch.func.grad(lambda x: look(x).sum())(x)
    with torch.no_grad():
        torch.jit.trace(look, x, check_trace=False)
    with forward_ad.dual_level():
        look(x)
    with FlopCounterMode(display=False):
        look(x)
    assert seen == 6 * [False]

    def both(x: Tensor) -> Tensor:
        return linear(x, weight, bias) if takes(x, weight, bias) else x + 1

    torch.compiler.reset()
    compiled: Any = torch.compile(both, fullgraph=True, backend="eager")
    assert torch.equal(compiled(x), x + 1)
    look(x)
    assert seen[-1]
