"""The long convolution of images against its definition, and against sums written out."""

import re
from typing import Any

import pytest
import torch
from backend_cases import cases, filter_dtype
from comparison import assert_all_close, assert_close, with_gradients
from torch import Tensor
from torch.nn import functional as F

from hyena.ops import backends, long_conv, long_conv2d, naive

SIZES = [
    # B, D, H, W, I, J
    (1, 1, 1, 1, 1, 1),
    (2, 3, 1, 5, 1, 9),
    (2, 1, 5, 1, 9, 1),
    (2, 3, 4, 7, 7, 13),  # the whole image
    (1, 2, 7, 4, 3, 5),
    (2, 2, 3, 5, 11, 15),  # beyond the image
    (1, 2, 11, 13, 21, 3),
    (2, 2, 8, 8, 15, 15),
]
# The definition is computed in float64 and rounded.
TOLERANCE = {
    torch.float64: 2e-15,
    torch.float32: 1e-6,
    torch.bfloat16: 1e-3,
    torch.float16: 1e-4,
}


def draw(
    generator: torch.Generator, sizes: tuple[int, ...], dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    """u, k and skip, of variance one."""
    D = sizes[1]
    shapes = (sizes[:4], (D, *sizes[4:]), (D,))
    return [torch.randn(s, generator=generator, dtype=torch.float64).to(dtype) for s in shapes]


@pytest.mark.parametrize(("backend", "dtype"), cases(TOLERANCE, without="naive"))
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("sizes", SIZES)
def test_equals_the_definition_with_every_gradient(
    sizes: tuple[int, ...],
    causal: bool,
    backend: str,
    dtype: torch.dtype,
    generator: torch.Generator,
) -> None:
    def definition(u: Tensor, k: Tensor, skip: Tensor) -> Tensor:
        y = naive.long_conv2d(u.double(), k.double(), skip.double(), causal=causal)
        return y.to(u.dtype)

    u, *filters = draw(generator, sizes, dtype)
    inputs = [u, *(x.to(filter_dtype(backend, dtype)) for x in filters)]
    got = with_gradients(lambda *x: long_conv2d(*x, causal=causal, backend=backend), *inputs)
    assert_all_close(got, with_gradients(definition, *inputs), TOLERANCE[dtype])


@pytest.mark.parametrize("causal", [True, False])
def test_the_definition_is_a_correlation_with_the_taps_reversed(
    causal: bool, generator: torch.Generator
) -> None:
    u, k, skip = draw(generator, (2, 3, 6, 8, 5, 7))
    top, left = (4, 6) if causal else (2, 3)
    wide = F.pad(u, (left, 6 - left, top, 4 - top))
    expected = F.conv2d(wide, k.flip(1, 2)[:, None], groups=3) + skip[:, None, None] * u
    assert_close(naive.long_conv2d(u, k, skip, causal=causal), expected, 1e-14)


def test_one_row_is_a_sequence(generator: torch.Generator) -> None:
    u, k, skip = draw(generator, (2, 3, 1, 9, 1, 9))
    expected = long_conv(u[:, :, 0], k[:, 0], skip)
    assert_close(long_conv2d(u, k, skip, causal=True)[:, :, 0], expected, 1e-15)


def test_a_separable_filter_is_two_sequences(generator: torch.Generator) -> None:
    u, k, _ = draw(generator, (2, 3, 6, 7, 11, 13))
    down, across = k[:, :, 0], k[:, 0]
    rows = long_conv(u.flatten(1, 2), across.repeat_interleave(6, 0), causal=False)
    columns = rows.unflatten(1, (3, 6)).mT.flatten(1, 2)
    both = long_conv(columns, down.repeat_interleave(7, 0), causal=False)
    expected = both.unflatten(1, (3, 7)).mT
    assert_close(long_conv2d(u, down[:, :, None] * across[:, None]), expected, 1e-14)


@pytest.mark.parametrize("backend", backends())
@pytest.mark.parametrize("causal", [True, False])
def test_a_pixel_reaches_only_where_taps_do(causal: bool, backend: Any) -> None:
    u = torch.zeros(1, 1, 5, 6)
    u[..., 2, 3] = 1.0
    y = long_conv2d(u, torch.ones(1, 3, 3), causal=causal, backend=backend)
    expected = torch.zeros(1, 1, 5, 6)
    top, left = (2, 3) if causal else (1, 2)
    expected[..., top : top + 3, left : left + 3] = 1.0
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("backend", backends())
@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)])
def test_empty_inputs(shape: tuple[int, ...], backend: Any) -> None:
    u = torch.zeros(shape, requires_grad=True)
    k, skip = torch.randn(shape[1], 3, 5).requires_grad_(), torch.randn(shape[1]).requires_grad_()
    y = long_conv2d(u, k, skip, backend=backend)
    assert y.shape == shape
    for x, gradient in zip((u, k, skip), torch.autograd.grad(y.sum(), (u, k, skip)), strict=True):
        assert torch.equal(gradient, torch.zeros_like(x))


def test_second_derivatives_and_transforms(generator: torch.Generator) -> None:
    inputs = [x.requires_grad_() for x in draw(generator, (1, 2, 2, 3, 3, 5))]
    assert torch.autograd.gradcheck(long_conv2d, inputs)
    assert torch.autograd.gradgradcheck(long_conv2d, inputs)
    u, k, skip = (x.detach() for x in inputs)
    images = torch.stack([u, 2 * u])
    mapped = torch.func.vmap(long_conv2d, (0, None, None))(images, k, skip)
    assert_close(mapped, torch.stack([long_conv2d(x, k, skip) for x in images]), 1e-14)


def test_any_strides(generator: torch.Generator) -> None:
    u, k, skip = draw(generator, (2, 3, 5, 6, 5, 5))
    v = u.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    assert not v.is_contiguous()
    assert torch.equal(long_conv2d(v, k.mT.contiguous().mT, skip), long_conv2d(u, k, skip))


def test_it_is_exported_and_compiles_to_one_program(generator: torch.Generator) -> None:
    inputs = tuple(draw(generator, (2, 3, 5, 6, 5, 5), torch.float32))

    class Layer(torch.nn.Module):
        def forward(self, *x: Tensor) -> Tensor:
            return long_conv2d(*x)

    program = torch.export.export(Layer(), inputs).module()
    assert_close(program(*inputs), long_conv2d(*inputs), 1e-6)


U, K = torch.zeros(2, 3, 4, 5), torch.zeros(3, 3, 3)


@pytest.mark.parametrize("op", [long_conv2d, naive.long_conv2d])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"u": U[0], "k": K},
            "expected u (B, D, H, W) and k (D, I, J), got (3, 4, 5) and (3, 3, 3)",
        ),
        (
            {"u": U, "k": K[:2]},
            "expected u (B, D, H, W) and k (D, I, J), got (2, 3, 4, 5) and (2, 3, 3)",
        ),
        (
            {"u": U, "k": K[:, :2]},
            "expected k (D, I, J) with I and J odd, with lag 0 in the middle (causal=False), got "
            "(3, 2, 3)",
        ),
        (
            {"u": U, "k": K[:, :0], "causal": True},
            "expected k (D, I, J) with I, J ≥ 1, got (3, 0, 3)",
        ),
        ({"u": U.int(), "k": K}, "expected floating point u, got torch.int32"),
        ({"u": U, "k": K.int()}, "expected floating point k, got torch.int32"),
        (
            {"u": U, "k": K, "skip": torch.zeros(2)},
            "expected floating point skip of shape (D,) = (3,), got (2,) of torch.float32",
        ),
        ({"u": U, "k": K.to("meta")}, "u is on cpu but k is on meta; move one of them"),
    ],
)
def test_what_does_not_fit_is_refused(op: Any, arguments: dict[str, Any], message: str) -> None:
    name = "naive.long_conv2d" if op is naive.long_conv2d else "long_conv2d"
    with pytest.raises(ValueError, match=f"^{re.escape(f'{name}: {message}')}$"):
        op(**arguments)


def test_a_tensor_is_asked_for() -> None:
    with pytest.raises(TypeError, match=r"^long_conv2d: expected a tensor as k, got None$"):
        long_conv2d(U, None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="is unknown; expected one of auto, native, torch, naive"):
        long_conv2d(U, K, backend="gpu")  # type: ignore[arg-type]
