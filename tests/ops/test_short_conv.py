"""The short convolution against its definition, and what it promises beyond that."""

from collections.abc import Callable

import pytest
import torch
from backend_cases import cases, filter_dtype
from comparison import assert_all_close, assert_close, with_gradients
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hyena.ops import Segments, backends, fft, naive, short_conv

SIZES = [
    (1, 1, 1, 1),
    (2, 3, 1, 3),  # K > L
    (2, 1, 2, 3),
    (3, 4, 13, 1),
    (1, 2, 17, 4),
    (2, 2, 5, 5),
    (2, 5, 97, 3),
    (1, 3, 130, 7),
    (2, 3, 150, 40),
]
# The definition is computed in float64 and rounded. Narrow dtypes add tap after tap in their own.
TOLERANCE = {
    torch.float64: 2e-15,
    torch.float32: 1e-6,
    torch.bfloat16: 1e-2,
    torch.float16: 1e-3,
}
EXACT = {dtype: TOLERANCE[dtype] for dtype in (torch.float64, torch.float32)}


def draw(
    generator: torch.Generator, B: int, D: int, L: int, K: int, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    """u, k and bias, of variance one."""
    u = torch.randn(B, D, L, generator=generator, dtype=torch.float64)
    k = torch.randn(D, K, generator=generator, dtype=torch.float64)
    bias = torch.randn(D, generator=generator, dtype=torch.float64)
    return u.to(dtype), k.to(dtype), bias.to(dtype)


def definition(causal: bool) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The definition, in float64 whatever comes in, rounded at the end."""

    def op(u: Tensor, k: Tensor, bias: Tensor) -> Tensor:
        y = naive.short_conv(u.double(), k.double(), bias.double(), causal=causal)
        return y.to(u.dtype)

    return op


@pytest.mark.parametrize(("backend", "dtype"), cases(TOLERANCE, without="naive"))
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("B", "D", "L", "K"), SIZES)
def test_equals_the_definition_with_every_gradient(
    B: int,
    D: int,
    L: int,
    K: int,
    causal: bool,
    backend: str,
    dtype: torch.dtype,
    generator: torch.Generator,
) -> None:
    if not causal and K % 2 == 0:
        K -= 1
    u, *filters = draw(generator, B, D, L, K, dtype)
    inputs = [u, *(x.to(filter_dtype(backend, dtype)) for x in filters)]
    got = with_gradients(lambda *x: short_conv(*x, causal=causal, backend=backend), *inputs)
    assert_all_close(got, with_gradients(definition(causal), *inputs), TOLERANCE[dtype])


@pytest.mark.parametrize(("backend", "dtype"), cases(TOLERANCE, without="naive"))
@pytest.mark.parametrize("G", [1, 2, 3, 6])
def test_a_group_of_channels_has_one_filter(
    G: int, backend: str, dtype: torch.dtype, generator: torch.Generator
) -> None:
    u, k, bias = draw(generator, 2, 6, 30, 4, dtype)
    inputs = [u, *(x.to(filter_dtype(backend, dtype)) for x in (k[:G], bias))]
    got = with_gradients(lambda *x: short_conv(*x, backend=backend), *inputs)

    def every(u: Tensor, k: Tensor, bias: Tensor) -> Tensor:
        return definition(True)(u, k.repeat_interleave(6 // G, 0), bias)

    assert_all_close(got, with_gradients(every, *inputs), TOLERANCE[dtype])
    assert_close(naive.short_conv(*inputs), got[0], TOLERANCE[dtype])


@pytest.mark.parametrize("causal", [True, False])
def test_channels_in_chunks_have_the_same_gradients(
    causal: bool, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = draw(generator, 2, 5, 20, 3)
    monkeypatch.setattr(fft, "CHUNK_ELEMENTS", 80)  # two channels at a time
    got = with_gradients(lambda *x: short_conv(*x, causal=causal), *inputs)
    assert_all_close(got, with_gradients(definition(causal), *inputs), TOLERANCE[torch.float64])


@pytest.mark.cpu
@pytest.mark.parametrize("autocast", [False, True])
def test_a_bfloat16_input_with_a_float32_filter(autocast: bool, generator: torch.Generator) -> None:
    u, k, bias = draw(generator, 2, 3, 63, 3, torch.float32)
    u = u.bfloat16()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        got = with_gradients(short_conv, u, k, bias)
    expected = with_gradients(definition(True), u, k, bias)
    assert_all_close(got, expected, TOLERANCE[torch.bfloat16])
    if not autocast:
        assert_close(got[2], expected[2], TOLERANCE[torch.float32])


@pytest.mark.cpu
def test_gradients_asked_for_inside_autocast_are_not_rounded(generator: torch.Generator) -> None:
    u, k = draw(generator, 2, 3, 50, 3)[:2]
    u, k = u.float().requires_grad_(), k.float().requires_grad_()
    expected = torch.autograd.grad(short_conv(u, k).sin().sum(), (u, k))
    with torch.autocast("cpu", torch.bfloat16):
        found = torch.autograd.grad(short_conv(u, k).sin().sum(), (u, k))
    assert_all_close(found, expected, 1e-7)


def test_any_strides(generator: torch.Generator) -> None:
    u, k, bias = draw(generator, 3, 4, 20, 3)
    expected = with_gradients(short_conv, u, k, bias)
    dy = torch.randn(u.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for v in (u.transpose(1, 2).contiguous().transpose(1, 2), u.repeat_interleave(2, -1)[..., ::2]):
        h = k.t().contiguous().t()
        assert not v.is_contiguous()
        y = short_conv(v.requires_grad_(), h.requires_grad_(), bias)
        assert_close(y, expected[0], 1e-15)
        strided = dy.transpose(0, 1).contiguous().transpose(0, 1)
        assert_all_close(torch.autograd.grad(y, [v, h], strided), expected[1:3], 1e-15)


@pytest.mark.parametrize("backend", backends())
@pytest.mark.parametrize("shape", [(0, 3, 5), (2, 0, 5), (2, 3, 0)])
def test_empty_inputs(shape: tuple[int, int, int], backend: str) -> None:
    u = torch.zeros(shape, dtype=torch.bfloat16, requires_grad=True)
    k, bias = (
        torch.randn(shape[1], 4, requires_grad=True),
        torch.randn(shape[1], requires_grad=True),
    )
    y = short_conv(u, k, bias, backend=backend)
    assert (y.shape, y.dtype) == (u.shape, u.dtype)
    for x, gradient in zip((u, k, bias), torch.autograd.grad(y.sum(), (u, k, bias)), strict=True):
        assert torch.equal(gradient, torch.zeros_like(x))


@pytest.mark.parametrize("causal", [True, False])
def test_a_delta_filter_is_the_identity(causal: bool, generator: torch.Generator) -> None:
    u, _, _ = draw(generator, 2, 3, 11, 1)
    k = torch.zeros(3, 5, dtype=torch.float64)
    k[:, 0 if causal else 2] = 1
    assert torch.equal(short_conv(u, k, causal=causal), u)


@pytest.mark.parametrize(("backend", "dtype"), cases(EXACT))
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("t", [0, 7, 19])
def test_exactly_the_taps_reach_a_position(
    t: int, causal: bool, backend: str, dtype: torch.dtype, generator: torch.Generator
) -> None:
    u, k, bias = draw(generator, 2, 3, 20, 5, dtype)
    moved = u.clone()
    moved[..., t] = float("nan")
    y = short_conv(moved, k, bias, causal=causal, backend=backend)
    reached = [t + lag for lag in naive.lags(5, causal) if 0 <= t + lag < 20]
    assert sorted(set(y.isnan().nonzero()[:, 2].tolist())) == reached
    others = [s for s in range(20) if s not in reached]
    expected = short_conv(u, k, bias, causal=causal, backend=backend)
    assert torch.equal(y[..., others], expected[..., others])


@pytest.mark.parametrize(("backend", "dtype"), cases(EXACT))
@pytest.mark.parametrize("causal", [True, False])
def test_packed_documents_equal_separate_ones(
    causal: bool, backend: str, dtype: torch.dtype, generator: torch.Generator
) -> None:
    u, k, bias = draw(generator, 2, 3, 12, 5, dtype)
    ids = torch.tensor([[0] * 5 + [1] + [2] * 6, [3] * 12])
    segments = Segments.from_document_ids(ids)

    def separate(u: Tensor, k: Tensor, bias: Tensor) -> Tensor:
        pieces = [
            definition(causal)(u[row : row + 1, :, a:b], k, bias) for row, a, b in segments.spans
        ]
        return torch.cat([torch.cat(pieces[:3], dim=-1), pieces[3]])

    expected = with_gradients(separate, u, k, bias)
    got = with_gradients(
        lambda *x: short_conv(*x, causal=causal, segments=segments, backend=backend), u, k, bias
    )
    assert_all_close(got, expected, EXACT[dtype])


@pytest.mark.parametrize("backend", backends())
def test_nan_stays_in_its_document(backend: str, generator: torch.Generator) -> None:
    u, k, _ = draw(generator, 1, 3, 8, 3, torch.float32)
    u[..., 3] = float("nan")
    segments = Segments.from_document_ids(torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1]]))
    y, _, dk = with_gradients(
        lambda u, k: short_conv(u, k, segments=segments, backend=backend)[..., 4:], u, k
    )
    assert bool(y.isfinite().all())
    if backend == "torch":  # the gradient of the definition multiplies by zero
        assert dk.isnan().tolist() == [[True, False, False]] * 3


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.booleans(), st.integers(0, 3))
def test_any_packing_equals_the_definition(lengths: list[int], causal: bool, half: int) -> None:
    generator = torch.Generator().manual_seed(0)
    u, k, bias = draw(generator, 1, 2, sum(lengths), 2 * half + 1)
    edges = torch.tensor([0, *lengths]).cumsum(0)
    segments = Segments.from_cu_seqlens(edges, 1, sum(lengths))
    expected = naive.short_conv(u, k, bias, causal=causal, segments=segments)
    assert_close(short_conv(u, k, bias, causal=causal, segments=segments), expected, 2e-15)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("L", "K"), [(5, 3), (2, 5), (1, 1)])
def test_first_and_second_derivatives(
    L: int, K: int, causal: bool, packed: bool, generator: torch.Generator
) -> None:
    inputs = [x.requires_grad_() for x in draw(generator, 2, 2, L, K)]
    ids = torch.tensor([[0] * (L - 1) + [1], [0] * L])
    segments = Segments.from_document_ids(ids) if packed else None

    def op(*x: Tensor) -> Tensor:
        return short_conv(*x, causal=causal, segments=segments)

    assert torch.autograd.gradcheck(op, inputs)
    assert torch.autograd.gradgradcheck(op, inputs)


@pytest.mark.parametrize("in_dims", [(0, 0), (0, None), (None, 0), (2, 1)])
def test_vmap(in_dims: tuple[int | None, int | None], generator: torch.Generator) -> None:
    u, k, _ = draw(generator, 2, 3, 9, 3)
    segments = Segments.from_document_ids(torch.tensor([[0] * 4 + [1] * 5, [0] * 9]))
    us = [u, 2 * u.flip(-1), u + 1] if in_dims[0] is not None else [u] * 3
    ks = [k, k.flip(-1), k - 1] if in_dims[1] is not None else [k] * 3

    def op(u: Tensor, k: Tensor) -> Tensor:
        return short_conv(u, k, segments=segments)

    got = torch.func.vmap(op, in_dims)(
        u if in_dims[0] is None else torch.stack(us, in_dims[0]),
        k if in_dims[1] is None else torch.stack(ks, in_dims[1]),
    )
    assert_close(got, torch.stack([op(a, b) for a, b in zip(us, ks, strict=True)]), 1e-15)


def test_jacobian_and_hessian_by_reverse_mode(generator: torch.Generator) -> None:
    u, k, _ = draw(generator, 1, 2, 4, 3)

    def loss(op: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda u, k: op(u, k).pow(3).sum()

    both = (0, 1)
    jacobian = torch.func.jacrev(short_conv, both)(u, k)
    assert_all_close(jacobian, torch.func.jacrev(naive.short_conv, both)(u, k), 1e-14)
    got = torch.func.jacrev(torch.func.jacrev(loss(short_conv), both), both)(u, k)
    expected = torch.func.jacrev(torch.func.jacrev(loss(naive.short_conv), both), both)(u, k)
    assert_all_close(sum(got, ()), sum(expected, ()), 1e-14)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # inside torch.func
def test_forward_mode(generator: torch.Generator) -> None:
    u, k, _ = draw(generator, 1, 2, 4, 3)
    du, dk, _ = draw(generator, 1, 2, 4, 3)
    y, dy = torch.func.jvp(short_conv, (u, k), (du, dk))
    assert_close(y, naive.short_conv(u, k), 1e-14)
    assert_close(dy, naive.short_conv(du, k) + naive.short_conv(u, dk), 1e-14)


def test_meta_tensors() -> None:
    u, k = torch.empty(2, 3, 9, device="meta", dtype=torch.bfloat16), torch.empty(3, 3).to("meta")
    y = short_conv(u, k, causal=False)
    assert (y.shape, y.dtype, y.device.type) == (u.shape, u.dtype, "meta")


# PyTorch's tracer makes an instance of the autograd function, of which PyTorch warns.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("causal", [True, False])
def test_compiles_to_one_graph(causal: bool, generator: torch.Generator) -> None:
    inputs = draw(generator, 2, 3, 17, 3)

    def op(*x: Tensor) -> Tensor:
        return short_conv(*x, causal=causal)

    compiled = torch.compile(op, fullgraph=True, backend="aot_eager")
    assert_all_close(with_gradients(compiled, *inputs), with_gradients(op, *inputs), 1e-15)


@pytest.mark.cpu
def test_arguments_that_do_not_fit() -> None:
    u, k = torch.zeros(2, 4, 10), torch.zeros(4, 3)
    for message, bad in [
        (r"expected u \(B, D, L\) and k \(D, K\), got \(4, 10\) and \(4, 3\)$", (u[0], k)),
        (r"k has 5 channels but u has 4", (u, torch.zeros(5, 3))),
        (r"k has 3 channels but u has 4", (u, torch.zeros(3, 3))),
        (r"the filter has no taps", (u, k[:, :0])),
        (r"expected floating point u, got torch.int64$", (u.long(), k)),
        (r"u is on cpu but k is on meta; move one of them$", (u, k.to("meta"))),
        (r"expected floating point bias of shape \(D,\) = \(4,\), got \(10,\)", (u, k, u[0, 0])),
    ]:
        with pytest.raises(ValueError, match=f"^short_conv: {message}"):
            short_conv(*bad)
    with pytest.raises(ValueError, match=r"^short_conv: causal=False needs an odd number of taps"):
        short_conv(u, torch.zeros(4, 2), causal=False)
    segments = Segments.from_document_ids(torch.zeros(2, 9, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"^short_conv: segments describe .* = \(2, 9\), but u is"):
        short_conv(u, k, segments=segments)
