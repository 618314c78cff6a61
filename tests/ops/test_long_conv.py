"""The long convolution against its definition, and what it promises beyond that."""

import shutil
from collections.abc import Callable

import pytest
import torch
from backend_cases import cases, filter_dtype
from comparison import assert_all_close, assert_close, with_gradients
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hyena.ops import Segments, backends, fft, long_conv, naive

SIZES = [
    (1, 1, 1, 1),
    (2, 3, 1, 5),
    (2, 1, 8, 8),
    (3, 4, 13, 13),
    (1, 2, 17, 3),  # K < L
    (2, 2, 5, 31),  # K > L
    (2, 5, 97, 97),
    (1, 3, 129, 101),
    (2, 2, 256, 255),
]
# The definition is computed in float64 and rounded, so in narrow dtypes only ties can differ.
TOLERANCE = {
    torch.float64: 2e-15,
    torch.float32: 1e-6,
    torch.bfloat16: 1e-3,
    torch.float16: 1e-4,
}

EXACT = {dtype: TOLERANCE[dtype] for dtype in (torch.float64, torch.float32)}


@pytest.fixture(params=["whole", "chunked"])
def chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once as it is, once with room for a single channel or few at a time."""
    if request.param == "chunked":
        monkeypatch.setattr(fft, "CHUNK_ELEMENTS", 64)


def draw(
    generator: torch.Generator, B: int, D: int, L: int, K: int, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    """u, k and skip, of variance one."""
    u = torch.randn(B, D, L, generator=generator, dtype=torch.float64)
    k = torch.randn(D, K, generator=generator, dtype=torch.float64)
    skip = torch.randn(D, generator=generator, dtype=torch.float64)
    return u.to(dtype), k.to(dtype), skip.to(dtype)


def definition(causal: bool) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The definition, in float64 whatever comes in, rounded at the end."""

    def op(u: Tensor, k: Tensor, skip: Tensor) -> Tensor:
        y = naive.long_conv(u.double(), k.double(), skip.double(), causal=causal)
        return y.to(u.dtype)

    return op


@pytest.mark.usefixtures("chunks")
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
    got = with_gradients(lambda *x: long_conv(*x, causal=causal, backend=backend), *inputs)
    expected = with_gradients(definition(causal), *inputs)
    assert_all_close(got, expected, TOLERANCE[dtype])


def test_taps_beyond_the_sequence_get_no_gradient(generator: torch.Generator) -> None:
    _, _, dk, _ = with_gradients(long_conv, *draw(generator, 2, 3, 5, 9))
    assert torch.equal(dk[:, 5:], torch.zeros(3, 4, dtype=torch.float64))
    assert bool(dk[:, :5].all())


@pytest.mark.cpu
@pytest.mark.parametrize("narrow", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("autocast", [False, True])
def test_a_narrow_input_with_a_float32_filter(
    narrow: torch.dtype, autocast: bool, generator: torch.Generator
) -> None:
    u, k, skip = draw(generator, 2, 3, 63, 63, torch.float32)
    u = u.to(narrow)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        y, du, dk, dskip = with_gradients(long_conv, u, k, skip)
    expected = with_gradients(definition(True), u, k, skip)
    assert_all_close([y, du], expected[:2], TOLERANCE[narrow])
    assert_all_close([dk, dskip], expected[2:], TOLERANCE[torch.float32])


@pytest.mark.cpu
def test_autocast_leaves_float32_alone(generator: torch.Generator) -> None:
    inputs = draw(generator, 2, 3, 63, 63, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        got = with_gradients(long_conv, *inputs)
    assert_all_close(got, with_gradients(definition(True), *inputs), 1e-6)


def test_any_strides(generator: torch.Generator) -> None:
    u, k, skip = draw(generator, 3, 4, 20, 20)
    expected = with_gradients(long_conv, u, k, skip)
    for v in (u.transpose(1, 2).contiguous().transpose(1, 2), u.repeat_interleave(2, -1)[..., ::2]):
        h = k.t().contiguous().t()
        assert not v.is_contiguous()
        y = long_conv(v.requires_grad_(), h.requires_grad_(), skip)
        assert_close(y, expected[0], 1e-15)
        dy = (
            torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
            .transpose(0, 1)
            .contiguous()
            .transpose(0, 1)
        )
        assert_all_close(torch.autograd.grad(y, [v, h], dy), expected[1:3], 1e-15)


@pytest.mark.parametrize("backend", backends())
@pytest.mark.parametrize("shape", [(0, 3, 5), (2, 0, 5), (2, 3, 0)])
def test_empty_inputs(shape: tuple[int, int, int], backend: str) -> None:
    u = torch.zeros(shape, dtype=torch.bfloat16, requires_grad=True)
    k, skip = (
        torch.randn(shape[1], 4, requires_grad=True),
        torch.randn(shape[1], requires_grad=True),
    )
    y = long_conv(u, k, skip, backend=backend)
    assert (y.shape, y.dtype) == (u.shape, u.dtype)
    for x, gradient in zip((u, k, skip), torch.autograd.grad(y.sum(), (u, k, skip)), strict=True):
        assert torch.equal(gradient, torch.zeros_like(x))


def test_empty_documents_and_batches_when_packed() -> None:
    u = torch.zeros(2, 3, 0)
    segments = Segments.from_document_ids(torch.zeros(2, 0, dtype=torch.int64))
    assert long_conv(u, torch.ones(3, 4), segments=segments).shape == (2, 3, 0)


@pytest.mark.parametrize("causal", [True, False])
def test_a_delta_filter_is_the_identity(causal: bool, generator: torch.Generator) -> None:
    u, _, _ = draw(generator, 2, 3, 31, 1)
    for lag in (0, 1, 7):
        k = torch.zeros(3, 31, dtype=torch.float64)
        k[:, lag + (0 if causal else 15)] = 1
        y = long_conv(u, k, causal=causal)
        assert_close(y[..., lag:], u[..., : 31 - lag], 1e-15)
        assert float(y[..., :lag].abs().sum()) < 1e-13
    assert_close(long_conv(u, torch.zeros_like(k), torch.ones(3).double()), u, 1e-15)


@pytest.mark.parametrize("causal", [True, False])
def test_linear_in_the_input_and_in_the_filter(causal: bool, generator: torch.Generator) -> None:
    u, k, _ = draw(generator, 2, 3, 29, 29)
    v, h, _ = draw(generator, 2, 3, 29, 29)
    y = long_conv(2 * u - 3 * v, k, causal=causal)
    assert_close(y, 2 * long_conv(u, k, causal=causal) - 3 * long_conv(v, k, causal=causal), 1e-14)
    y = long_conv(u, 2 * k - 3 * h, causal=causal)
    assert_close(y, 2 * long_conv(u, k, causal=causal) - 3 * long_conv(u, h, causal=causal), 1e-14)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("t", [0, 1, 40, 99])
def test_the_definition_is_exactly_causal(
    t: int, dtype: torch.dtype, generator: torch.Generator
) -> None:
    u, k, skip = draw(generator, 2, 3, 100, 100, dtype)
    moved = u.clone()
    moved[..., t] += 1e6
    change = naive.long_conv(moved, k, skip) - naive.long_conv(u, k, skip)
    assert torch.equal(change[..., :t], torch.zeros_like(change[..., :t]))
    assert bool(change[..., t].all())


def some_filters(generator: torch.Generator, length: int) -> Tensor:
    """Rough and smooth ones, ones that decay, and ones with all their weight in one place."""
    t = torch.arange(length, dtype=torch.float64)
    noise = torch.randn(3, length, generator=generator, dtype=torch.float64)
    taps = torch.zeros(3, length, dtype=torch.float64)
    taps[0, 0] = taps[1, length // 2] = taps[2, -1] = 1
    waves = torch.sin(t * torch.tensor([[0.01], [0.3], [2.0]], dtype=torch.float64))
    others = torch.stack([torch.ones_like(t), 1 - 2 * (t % 2), noise[2].cumsum(0)])
    return torch.cat([noise, noise * torch.exp(-20 * t / length), taps, waves + 0.1, others])


@pytest.mark.parametrize(
    ("backend", "dtype"),
    cases(EXACT, without="naive"),
)
@pytest.mark.parametrize("L", [2, 3, 4, 5, 8, 13, 100, 128, 500, 1000, 2048, 10007])
def test_causal_up_to_the_stated_bound(
    L: int, backend: str, dtype: torch.dtype, generator: torch.Generator
) -> None:
    k = some_filters(generator, L).to(dtype)
    u = torch.randn(2, k.shape[0], L, generator=generator, dtype=torch.float64).to(dtype)
    before = long_conv(u, k, backend=backend)
    for size in (1e3, 1e6):
        for t in sorted({1, L // 2, 3 * L // 4, L - 1} - {0}):
            moved = u.clone()
            moved[..., t] += size
            change = long_conv(moved, k, backend=backend) - before
            early = change[..., :t].abs().amax((0, 2))
            # The bound of the docstring. Measured: 1.2 at most, in the shortest rows.
            assert bool((early <= 4 * torch.finfo(dtype).eps * size * k.norm(dim=1)).all())
            assert_close(change[..., t:], size * k[:, : L - t].expand(2, -1, -1), 1e-2)


def test_a_centred_filter_sees_the_future(generator: torch.Generator) -> None:
    u, k, _ = draw(generator, 1, 2, 30, 59)
    moved = u.clone()
    moved[..., -1] += 1
    change = long_conv(moved, k, causal=False) - long_conv(u, k, causal=False)
    assert_close(change, k[:, :30][None], 1e-13)


def test_nan_reaches_its_own_row_only(generator: torch.Generator) -> None:
    u, k, _ = draw(generator, 2, 3, 16, 16)
    u[0, 1, 9] = float("nan")
    expected = torch.zeros(2, 3, dtype=torch.bool)
    expected[0, 1] = True
    assert torch.equal(long_conv(u, k).isnan().any(-1), expected)
    assert bool(long_conv(u, k, backend="naive")[..., :9].isfinite().all())


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("K", [1, 5, 41])
@pytest.mark.parametrize(("backend", "dtype"), cases(EXACT))
def test_packed_documents_equal_separate_ones(
    backend: str, dtype: torch.dtype, causal: bool, K: int, generator: torch.Generator
) -> None:
    u, k, skip = draw(generator, 2, 3, 23, K, dtype)
    ids = torch.tensor(
        [[0] * 9 + [1] * 1 + [2] * 8 + [3] * 5, [5] * 2 + [0] * 21], dtype=torch.int32
    )
    segments = Segments.from_document_ids(ids)

    def separate(u: Tensor, k: Tensor, skip: Tensor) -> Tensor:
        rows = [
            torch.cat(
                [
                    definition(causal)(u[row : row + 1, :, a:b], k, skip)
                    for r, a, b in segments.spans
                    if r == row
                ],
                dim=-1,
            )
            for row in range(2)
        ]
        return torch.cat(rows)

    expected = with_gradients(separate, u, k, skip)
    got = with_gradients(
        lambda *x: long_conv(*x, causal=causal, segments=segments, backend=backend), u, k, skip
    )
    assert_all_close(got, expected, EXACT[dtype])


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.booleans(), st.integers(1, 12))
def test_any_packing_equals_the_definition(lengths: list[int], causal: bool, taps: int) -> None:
    generator = torch.Generator().manual_seed(0)
    u, k, skip = draw(generator, 1, 2, sum(lengths), taps if causal else 2 * taps - 1)
    edges = torch.tensor([0, *lengths]).cumsum(0)
    segments = Segments.from_cu_seqlens(edges, 1, sum(lengths))
    expected = naive.long_conv(u, k, skip, causal=causal, segments=segments)
    assert_close(long_conv(u, k, skip, causal=causal, segments=segments), expected, 2e-15)


def test_trivial_segments_change_nothing(generator: torch.Generator) -> None:
    u, k, skip = draw(generator, 2, 3, 12, 12)
    segments = Segments.from_document_ids(torch.tensor([[4], [4]]).expand(2, 12))
    assert torch.equal(long_conv(u, k, skip, segments=segments), long_conv(u, k, skip))


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("L", "K"), [(4, 3), (3, 5), (1, 1)])
def test_first_and_second_derivatives(
    L: int, K: int, causal: bool, generator: torch.Generator
) -> None:
    inputs = [x.requires_grad_() for x in draw(generator, 2, 2, L, K)]

    def op(*x: Tensor) -> Tensor:
        return long_conv(*x, causal=causal)

    assert torch.autograd.gradcheck(op, inputs)
    assert torch.autograd.gradgradcheck(op, inputs)


def test_second_derivatives_of_a_single_input(generator: torch.Generator) -> None:
    u, k, _ = draw(generator, 1, 2, 4, 4)
    assert torch.autograd.gradgradcheck(lambda u: long_conv(u, k) ** 2, u.requires_grad_())
    assert torch.autograd.gradgradcheck(lambda k: long_conv(u.detach(), k) ** 2, k.requires_grad_())


def test_derivatives_when_packed(generator: torch.Generator) -> None:
    inputs = [x.requires_grad_() for x in draw(generator, 1, 2, 6, 6)]
    segments = Segments.from_document_ids(torch.tensor([[0, 0, 0, 1, 2, 2]]))
    assert torch.autograd.gradcheck(lambda *x: long_conv(*x, segments=segments), inputs)
    assert torch.autograd.gradgradcheck(lambda *x: long_conv(*x, segments=segments), inputs)


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("in_dims", [(0, 0), (0, None), (None, 0), (2, 1)])
def test_vmap(in_dims: tuple[int | None, int | None], generator: torch.Generator) -> None:
    u, k, _ = draw(generator, 2, 3, 19, 19)
    us = [u, 2 * u.flip(-1), u + 1] if in_dims[0] is not None else [u] * 3
    ks = [k, k.flip(-1), k - 1] if in_dims[1] is not None else [k] * 3
    got = torch.func.vmap(long_conv, in_dims)(
        u if in_dims[0] is None else torch.stack(us, in_dims[0]),
        k if in_dims[1] is None else torch.stack(ks, in_dims[1]),
    )
    assert_close(got, torch.stack([long_conv(a, b) for a, b in zip(us, ks, strict=True)]), 1e-15)


def test_jacobian_and_hessian_by_reverse_mode(generator: torch.Generator) -> None:
    u, k, _ = draw(generator, 1, 2, 4, 3)

    def loss(op):
        return lambda u, k: op(u, k).pow(3).sum()

    both = (0, 1)
    jacobian = torch.func.jacrev(long_conv, both)(u, k)
    assert_all_close(jacobian, torch.func.jacrev(naive.long_conv, both)(u, k), 1e-14)
    got = torch.func.jacrev(torch.func.jacrev(loss(long_conv), both), both)(u, k)
    expected = torch.func.jacrev(torch.func.jacrev(loss(naive.long_conv), both), both)(u, k)
    assert_all_close(sum(got, ()), sum(expected, ()), 1e-14)


def test_gradients_of_each_sample(generator: torch.Generator) -> None:
    u, k, _ = draw(generator, 4, 2, 9, 9)
    gradient = torch.func.grad(lambda k, row: long_conv(row[None], k).pow(2).sum())
    got = torch.func.vmap(gradient, (None, 0))(k, u)
    assert_close(got, torch.stack([gradient(k, row) for row in u]), 1e-14)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # inside torch.func
def test_forward_mode(generator: torch.Generator) -> None:
    u, k, _ = draw(generator, 1, 2, 4, 4)
    du, dk, _ = draw(generator, 1, 2, 4, 4)
    y, dy = torch.func.jvp(long_conv, (u, k), (du, dk))
    assert_close(y, naive.long_conv(u, k), 1e-14)
    assert_close(dy, naive.long_conv(du, k) + naive.long_conv(u, dk), 1e-14)


def test_meta_tensors() -> None:
    u, k = torch.empty(2, 3, 9, device="meta", dtype=torch.bfloat16), torch.empty(3, 9).to("meta")
    y = long_conv(u, k)
    assert (y.shape, y.dtype, y.device.type) == (u.shape, u.dtype, "meta")
    assert long_conv(u, k, causal=False).is_meta


# PyTorch's tracer makes an instance of the autograd function, of which PyTorch warns.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("causal", [True, False])
def test_compiles_to_one_graph(causal: bool, generator: torch.Generator) -> None:
    inputs = draw(generator, 2, 3, 17, 17)

    def op(*x: Tensor) -> Tensor:
        return long_conv(*x, causal=causal)

    compiled = torch.compile(op, fullgraph=True, backend="aot_eager")
    assert_all_close(with_gradients(compiled, *inputs), with_gradients(op, *inputs), 1e-15)


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_compiles_with_the_default_compiler(generator: torch.Generator) -> None:
    inputs = draw(generator, 2, 3, 17, 17)
    compiled = torch.compile(long_conv, fullgraph=True)
    assert_all_close(with_gradients(compiled, *inputs), with_gradients(long_conv, *inputs), 1e-14)


@pytest.mark.cpu
def test_arguments_that_do_not_fit() -> None:
    u, k = torch.zeros(2, 64, 10), torch.zeros(64, 10)
    got = r"got \(2, 64, 10\) and"
    ids = Segments.from_document_ids(torch.arange(20).view(1, 20))
    for message, bad in [
        (rf"expected u \(B, D, L\) and k \(D, K\), {got} \(1, 64, 10\)$", (u, k[None])),
        (r"expected u \(B, D, L\) and k \(D, K\), got \(64, 10\) and \(64, 10\)$", (u[0], k)),
        (
            r"k has 96 channels but u has 64; expected u \(B, D, L\) and k \(D, K\), "
            rf"{got} \(96, 10\)$",
            (u, torch.zeros(96, 10)),
        ),
        (r"the filter has no taps; expected k .* K ≥ 1, got \(64, 0\)$", (u, k[:, :0])),
        (r"expected floating point u, got torch.int64$", (u.long(), k)),
        (r"expected floating point k, got torch.int64$", (u, k.long())),
        (r"expected floating point u, got torch.float8_e4m3fn$", (u.to(torch.float8_e4m3fn), k)),
        (r"expected floating point k, got torch.float8_e5m2$", (u, k.to(torch.float8_e5m2))),
        (r"u is on cpu but k is on meta; move one of them$", (u, k.to("meta"))),
        (
            r"expected floating point skip of shape \(D,\) = \(64,\), got \(10,\) of torch\.float",
            (u, k, torch.zeros(10)),
        ),
        (r"k is on cpu but skip is on meta", (u, k, torch.zeros(64, device="meta"))),
    ]:
        with pytest.raises(ValueError, match=f"^long_conv: {message}"):
            long_conv(*bad)
    with pytest.raises(ValueError, match=r"^long_conv: causal=False needs an odd .* got K = 10$"):
        long_conv(u, k, causal=False)
    with pytest.raises(
        ValueError, match=r"segments describe a batch \(B, L\) = \(1, 20\), but u is"
    ):
        long_conv(u, k, segments=ids)
