"""The rivals do the work that they are timed at: they equal ours, from the same numbers."""

import pytest
import torch
from comparison import assert_all_close, assert_close, with_gradients, with_module_gradients

from hyena import HyenaFilter, HyenaOperator
from hyena.bench.convolution.baselines import AttentionBlock, PublicOperator, public_gated_conv
from hyena.bench.reference import attention as attention_at
from hyena.bench.reference import head_size
from hyena.ops import gated_conv, naive


@pytest.mark.parametrize(("B", "D", "L"), [(1, 1, 1), (2, 3, 7), (2, 4, 64)])
def test_the_public_recipe_is_the_gated_convolution(
    B: int, D: int, L: int, generator: torch.Generator
) -> None:
    sizes = ((B, 3 * D, L), (D, L), (D,))
    inputs = [torch.randn(size, generator=generator, dtype=torch.float64) for size in sizes]
    expected = with_gradients(naive.gated_conv, *inputs)
    assert_all_close(with_gradients(public_gated_conv, *inputs), expected, 1e-12)
    narrow = [x.float() for x in inputs]
    for f in (public_gated_conv, gated_conv):
        got = with_gradients(f, *narrow)
        assert_all_close(got, expected, 1e-6, dtype=torch.float32)


def make(dtype: torch.dtype, **filter: object) -> HyenaOperator:
    its = HyenaFilter(6, 40, dtype=dtype, **filter)  # type: ignore[arg-type]
    return HyenaOperator(6, 40, filter=its, dtype=dtype)


@pytest.mark.parametrize(
    "filter",
    [
        {},
        {"shift": 0.05, "normalized": True, "emb_dim": 5, "width": 16, "depth": 3},
        {"window": False, "sine_freq": 14.0},
    ],
)
@pytest.mark.parametrize("L", [1, 23, 40])
def test_the_public_operator_is_ours(
    filter: dict[str, object], L: int, generator: torch.Generator
) -> None:
    ours = make(torch.float64, **filter)
    public = PublicOperator(ours)
    u = torch.randn(2, L, 6, generator=generator, dtype=torch.float64)
    y, du, *gradients = with_module_gradients(ours, ours, u)
    names = [name for name, p in ours.named_parameters() if p.requires_grad]
    by_name = public.by_our_names()
    assert sorted(by_name) == sorted(names)

    leaf = u.clone().requires_grad_()
    dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    got = public(leaf)
    assert_close(got.detach(), y, 1e-12)
    its = torch.autograd.grad(got, [leaf, *by_name.values()], dy)
    assert_close(its[0], du, 1e-12)
    for name, gradient in zip(by_name, its[1:], strict=True):
        expected = gradients[names.index(name)]
        if name == "short_conv.weight":
            expected = expected.flip(-1)
        if bool(expected.any()):  # at L = 1 some parameters have no effect
            assert_close(gradient.reshape(expected.shape), expected, 1e-10)


def test_the_public_operator_agrees_in_float32(generator: torch.Generator) -> None:
    ours = make(torch.float32).eval()
    u = torch.randn(2, 40, 6, generator=generator)
    with torch.no_grad():
        assert_close(PublicOperator(ours)(u), ours(u), 1e-5)


@pytest.mark.parametrize(
    "ours",
    [
        HyenaOperator(4, 8, 3),
        HyenaOperator(4, 8, bidirectional=True),
        HyenaOperator(4, 8, filter=HyenaFilter(4, 8, train_encoding=True)),
    ],
)
def test_what_the_public_operator_is_not_made_of_is_refused(ours: HyenaOperator) -> None:
    with pytest.raises(ValueError, match="expected a causal HyenaOperator of order 2"):
        PublicOperator(ours)


def test_the_attention_block_is_attention(generator: torch.Generator) -> None:
    block = AttentionBlock(128).double()
    u = torch.randn(2, 9, 128, generator=generator, dtype=torch.float64)
    y = attention_at(*block.heads(u), torch.arange(9)).transpose(1, 2).flatten(2)
    assert_close(block(u), block.out_proj(y), 1e-12)


def test_heads_are_of_64() -> None:
    assert [head_size(width) for width in (8, 64, 256)] == [8, 64, 64]
    with pytest.raises(ValueError, match="attention has heads of 64, but width is 96"):
        head_size(96)
