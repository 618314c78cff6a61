"""Exact causality: nothing of the future, of whatever size, moves an earlier output by one bit."""

from collections.abc import Callable
from functools import lru_cache

import pytest
import torch
from backend_cases import cases
from comparison import assert_all_close, assert_close, with_gradients
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hyena.ops import Segments, backends, block_causal, gated_conv, long_conv, naive

SIZES = [  # B, D, L, K
    (1, 1, 1, 1),
    (2, 3, 5, 9),
    (2, 1, 32, 32),
    (1, 2, 33, 33),
    (3, 4, 97, 97),
    (2, 2, 129, 300),  # K > L
    (2, 3, 200, 2),  # K < L: all in the time domain,
    (1, 2, 200, 40),  # and through small transforms
    (1, 3, 600, 599),
    (2, 1, 1025, 1031),
]
TOLERANCE = {
    torch.float64: 2e-15,
    torch.float32: 1e-6,
    torch.bfloat16: 4e-3,
    torch.float16: 5e-4,
}
CASES = cases(TOLERANCE)
HUGE = torch.tensor([1e30, torch.inf, -torch.inf, torch.nan])  # one a channel


@pytest.fixture(params=["as it is", "small"])
def leaf(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks summed in the time domain: of their size, and so small that there are many levels."""
    if request.param == "small":
        small_leaf(monkeypatch)


def small_leaf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_causal, "LEAF", 3)


def draw(
    generator: torch.Generator, B: int, D: int, L: int, K: int, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    """u, k and skip, of variance one; filters of float32 or more."""
    u = torch.randn(B, D, L, generator=generator, dtype=torch.float64)
    k = torch.randn(D, K, generator=generator, dtype=torch.float64)
    skip = torch.randn(D, generator=generator, dtype=torch.float64)
    wide = torch.promote_types(dtype, torch.float32)
    return u.to(dtype), k.to(wide), skip.to(wide)


def exact(**options: object) -> Callable[..., Tensor]:
    def op(u: Tensor, k: Tensor, skip: Tensor) -> Tensor:
        return long_conv(u, k, skip, block_causal=True, **options)  # type: ignore[arg-type]

    return op


def definition(**options: object) -> Callable[..., Tensor]:
    """The definition, in float64 whatever comes in, rounded at the end."""

    def op(u: Tensor, k: Tensor, skip: Tensor) -> Tensor:
        y = naive.long_conv(u.double(), k.double(), skip.double(), **options)  # type: ignore[arg-type]
        return y.to(u.dtype)

    return op


@lru_cache(maxsize=len(TOLERANCE))  # one a dtype: sizes come one after the other
def inputs_and_definition(
    B: int, D: int, L: int, K: int, dtype: torch.dtype
) -> tuple[tuple[Tensor, ...], list[Tensor]]:
    """What all backends are given, and what they should give."""
    inputs = draw(torch.Generator().manual_seed(0), B, D, L, K, dtype)
    return inputs, with_gradients(definition(), *inputs)


@pytest.mark.parametrize(("backend", "dtype"), CASES)
@pytest.mark.parametrize(("B", "D", "L", "K"), SIZES)
def test_equals_the_definition_with_every_gradient(
    B: int,
    D: int,
    L: int,
    K: int,
    backend: str,
    dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inputs, expected = inputs_and_definition(B, D, L, K, dtype)
    op = exact(backend=backend)
    assert_all_close(with_gradients(op, *inputs), expected, TOLERANCE[dtype])
    if L <= 200:  # many levels already
        small_leaf(monkeypatch)
        assert_all_close(with_gradients(op, *inputs), expected, TOLERANCE[dtype])


@given(st.integers(1, 70), st.integers(1, 80), st.integers(1, 9))
def test_any_sizes_equal_the_definition(length: int, taps: int, leaf: int) -> None:
    inputs = draw(torch.Generator().manual_seed(0), 2, 2, length, taps)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(block_causal, "LEAF", leaf)
        assert_close(exact()(*inputs), definition()(*inputs), 2e-15)


@pytest.mark.usefixtures("leaf")
@pytest.mark.parametrize(("backend", "dtype"), CASES)
def test_nothing_moves_an_earlier_output(
    backend: str, dtype: torch.dtype, generator: torch.Generator
) -> None:
    L = 150
    u, k, skip = draw(generator, 2, len(HUGE), L, L, dtype)
    before = exact(backend=backend)(u, k, skip)
    for t in (0, 1, 31, 32, 63, 64, 65, 100, 127, 128, 148, 149):
        moved = u.clone()
        moved[..., t:] = HUGE[:, None]
        moved[0, 0, t + 1 :] = u[0, 0, t + 1 :]  # in one row at that position only
        after = exact(backend=backend)(moved, k, skip)
        assert torch.equal(after[..., :t], before[..., :t])
        assert bool((after[..., t] != before[..., t]).all())


@pytest.mark.usefixtures("leaf")
@pytest.mark.parametrize("backend", backends())
def test_a_gradient_comes_from_later_outputs_only(backend: str, generator: torch.Generator) -> None:
    L = 150
    u, k, skip = draw(generator, 2, len(HUGE), L, L, torch.float32)
    dy = torch.randn(u.shape, generator=generator)
    u.requires_grad_()
    y = exact(backend=backend)(u, k, skip)
    [before] = torch.autograd.grad(y, u, dy, retain_graph=True)
    for t in (0, 1, 31, 32, 64, 100, 127, 128, 148):
        moved = dy.clone()
        moved[..., t] = HUGE
        [after] = torch.autograd.grad(y, u, moved, retain_graph=True)
        assert torch.equal(after[..., t + 1 :], before[..., t + 1 :])
        assert bool((after[..., t] != before[..., t]).all())


@pytest.mark.usefixtures("leaf")
@pytest.mark.parametrize("backend", backends())
def test_the_gated_convolution_is_exact_as_well(backend: str, generator: torch.Generator) -> None:
    L, D = 150, len(HUGE)
    z = torch.randn(2, 3 * D, L, generator=generator)
    k, skip = torch.randn(D, L, generator=generator), torch.randn(D, generator=generator)
    short = (torch.randn(3 * D, 3, generator=generator), torch.randn(3 * D, generator=generator))

    def op(z: Tensor) -> Tensor:
        return gated_conv(z, k, skip, short=short, block_causal=True, backend=backend)

    before = op(z)
    assert_close(before, gated_conv(z, k, skip, short=short, backend=backend), 1e-6)
    for t in (1, 32, 100, 149):
        moved = z.clone()
        moved[..., t] = HUGE.repeat(3)
        after = op(moved)
        assert torch.equal(after[..., :t], before[..., :t])
        assert bool((after[..., t] != before[..., t]).all())


@pytest.mark.usefixtures("leaf")
@pytest.mark.parametrize("backend", backends())
@pytest.mark.parametrize("K", [1, 7, 200])
def test_packed_documents(K: int, backend: str, generator: torch.Generator) -> None:
    u, k, skip = draw(generator, 2, 3, 140, K, torch.float32)
    ids = torch.tensor([[0] * 9 + [1] * 61 + [2] * 70, [5] * 2 + [0] * 138])
    segments = Segments.from_document_ids(ids)
    op = exact(segments=segments, backend=backend)
    got = with_gradients(op, u, k, skip)
    assert_all_close(got, with_gradients(definition(segments=segments), u, k, skip), 1e-6)
    t = 50
    moved = u.clone()
    moved[..., t] = torch.nan
    after = op(moved, k, skip)
    assert torch.equal(after[..., :t], got[0][..., :t])
    assert torch.equal(after[0, :, 70:], got[0][0, :, 70:])  # the next document
    assert bool(after[..., t].isnan().all())


@pytest.mark.usefixtures("leaf")
@pytest.mark.parametrize("backend", backends())
def test_any_strides(backend: str, generator: torch.Generator) -> None:
    u, k, skip = draw(generator, 2, 3, 77, 77, torch.float32)
    expected = with_gradients(definition(), u, k, skip)
    for v in (u.transpose(1, 2).contiguous().transpose(1, 2), u.repeat_interleave(2, -1)[..., ::2]):
        leaves = [
            v.requires_grad_(),
            k.t().contiguous().t().requires_grad_(),
            skip.requires_grad_(),
        ]
        y = exact(backend=backend)(*leaves)
        dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        strided = dy.float().transpose(0, 1).contiguous().transpose(0, 1)
        assert_all_close([y, *torch.autograd.grad(y, leaves, strided)], expected, 1e-6)


@pytest.mark.parametrize("backend", backends())
@pytest.mark.parametrize("shape", [(0, 3, 50), (2, 0, 50), (2, 3, 0)])
def test_empty_inputs(shape: tuple[int, int, int], backend: str) -> None:
    u = torch.zeros(shape, requires_grad=True)
    k = torch.randn(shape[1], 50, requires_grad=True)
    y = long_conv(u, k, block_causal=True, backend=backend)
    assert y.shape == shape
    for x, gradient in zip((u, k), torch.autograd.grad(y.sum(), (u, k)), strict=True):
        assert torch.equal(gradient, torch.zeros_like(x))


def test_each_lag_between_two_leaves_belongs_to_one_level() -> None:
    length, taps = 301, 70
    seen = torch.zeros(length, length, dtype=torch.int64)  # (output, input)
    for size, reach, blocks in block_causal.levels(length, taps):
        assert reach <= size
        for middle in range(size, length, 2 * size):
            blocks -= 1
            seen[middle : middle + reach, middle - reach : middle] += 1
        assert blocks == 0
    lag = torch.arange(length)[:, None] - torch.arange(length)
    leaf = torch.arange(length) // block_causal.LEAF
    needed = (lag > 0) & (lag < taps) & (leaf[:, None] != leaf)
    assert bool((seen[needed] == 1).all())
    assert bool((seen[leaf[:, None] == leaf] == 0).all())
    assert block_causal.levels(length, block_causal.LEAF) == []


@pytest.mark.parametrize(("L", "K"), [(7, 7), (5, 9), (6, 3)])
def test_first_and_second_derivatives(
    L: int, K: int, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(block_causal, "LEAF", 2)
    inputs = [x.requires_grad_() for x in draw(generator, 2, 1, L, K)]
    assert torch.autograd.gradcheck(exact(), inputs)
    assert torch.autograd.gradgradcheck(exact(), inputs)


@pytest.mark.usefixtures("leaf")
@pytest.mark.parametrize("in_dims", [(0, 0), (0, None), (None, 0), (2, 1)])
def test_vmap(in_dims: tuple[int | None, int | None], generator: torch.Generator) -> None:
    u, k, skip = draw(generator, 2, 3, 70, 70)
    us = [u, 2 * u.flip(-1), u + 1] if in_dims[0] is not None else [u] * 3
    ks = [k, k.flip(-1), k - 1] if in_dims[1] is not None else [k] * 3
    got = torch.func.vmap(exact(), (*in_dims, None))(
        u if in_dims[0] is None else torch.stack(us, in_dims[0]),
        k if in_dims[1] is None else torch.stack(ks, in_dims[1]),
        skip,
    )
    expected = torch.stack([long_conv(a, b, skip) for a, b in zip(us, ks, strict=True)])
    assert_close(got, expected, 1e-14)


def test_meta_tensors() -> None:
    u, k = torch.empty(2, 3, 99, device="meta", dtype=torch.bfloat16), torch.empty(3, 99).to("meta")
    y = long_conv(u, k, block_causal=True)
    assert (y.shape, y.dtype, y.device.type) == (u.shape, u.dtype, "meta")


# PyTorch's tracer makes an instance of the autograd function, of which PyTorch warns.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("backend", backends())
def test_compiles_to_one_graph(
    backend: str, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_leaf(monkeypatch)
    inputs = draw(generator, 2, 3, 5, 5, torch.float32)  # one level, and the leaves
    op = exact(backend=backend)
    compiled = torch.compile(op, fullgraph=True, backend="aot_eager")
    assert_all_close(with_gradients(compiled, *inputs), with_gradients(op, *inputs), 1e-6)


def test_the_future_cannot_be_asked_for_and_kept_out() -> None:
    u, k = torch.zeros(2, 3, 9), torch.zeros(3, 9)
    message = r"conv: block_causal=True keeps the future out, but causal=False asks for it; drop "
    with pytest.raises(ValueError, match=f"^long_{message}"):
        long_conv(u, k, causal=False, block_causal=True)
    with pytest.raises(ValueError, match=f"^gated_{message}"):
        gated_conv(u, k[:1], causal=False, block_causal=True)
