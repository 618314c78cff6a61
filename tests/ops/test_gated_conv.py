"""The gated convolution against its definition, and what it promises beyond that."""

from collections.abc import Callable

import pytest
import torch
from backend_cases import cases
from comparison import assert_all_close, assert_close, with_gradients
from torch import Tensor

from hyena.ops import (
    Segments,
    backends,
    filter_spectrum,
    gated_conv,
    long_conv,
    naive,
    short_conv,
)

SIZES = [  # B, D, L, K, J
    (1, 1, 1, 1, 1),
    (2, 3, 1, 5, 3),  # K > L and J > L
    (3, 4, 13, 13, 3),
    (1, 2, 17, 3, 5),  # K < L
    (2, 2, 5, 31, 3),
    (2, 5, 97, 97, 7),
    (1, 17, 130, 129, 3),
    (2, 2, 512, 511, 3),
    (1, 1, 1031, 1031, 3),
]
# In narrow dtypes the PyTorch backend rounds after every step.
TOLERANCE = {
    torch.float64: 2e-15,
    torch.float32: 1e-6,
    torch.bfloat16: 2e-2,
    torch.float16: 2e-3,
}
CASES = cases(TOLERANCE)
FLOAT32 = torch.float32


def draw(
    generator: torch.Generator,
    B: int,
    D: int,
    L: int,
    K: int,
    J: int = 3,
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """z, k, skip, short taps and bias, of variance one; filters of float32 or more."""
    shapes = [(B, 3 * D, L), (D, K), (D,), (3 * D, J), (3 * D,)]
    z, *filters = (torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes)
    wide = torch.promote_types(dtype, torch.float32)
    return z.to(dtype), *(x.to(wide) for x in filters)  # type: ignore[return-value]


def fast(**options: object) -> Callable[..., Tensor]:
    """The op as a function of its tensors alone."""

    def op(z: Tensor, k: Tensor, skip: Tensor, taps: Tensor, bias: Tensor) -> Tensor:
        return gated_conv(z, k, skip, short=(taps, bias), **options)

    return op


def definition(**options: object) -> Callable[..., Tensor]:
    """The definition, in float64 whatever comes in, rounded at the end."""

    def op(z: Tensor, *filters: Tensor) -> Tensor:
        k, skip, taps, bias = (x.double() for x in filters)
        return naive.gated_conv(z.double(), k, skip, short=(taps, bias), **options).to(z.dtype)

    return op


@pytest.mark.parametrize(("backend", "dtype"), CASES)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("B", "D", "L", "K", "J"), SIZES)
def test_equals_the_definition_with_every_gradient(
    B: int,
    D: int,
    L: int,
    K: int,
    J: int,
    causal: bool,
    backend: str,
    dtype: torch.dtype,
    generator: torch.Generator,
) -> None:
    inputs = draw(generator, B, D, L, K if causal else K - 1 + K % 2, J, dtype)
    got = with_gradients(fast(causal=causal, backend=backend), *inputs)
    assert_all_close(got, with_gradients(definition(causal=causal), *inputs), TOLERANCE[dtype])


@pytest.mark.parametrize("backend", backends())
def test_what_may_be_left_out(backend: str, generator: torch.Generator) -> None:
    z, k, skip, taps, bias = draw(generator, 2, 3, 40, 40, dtype=FLOAT32)
    for options in (
        {},
        {"skip": skip},
        {"short": (taps, None)},
        {"short": (taps, bias)},
        {"skip": skip, "short": (taps, None)},
    ):
        wide = {
            name: tuple(None if x is None else x.double() for x in value)
            if isinstance(value, tuple)
            else value.double()
            for name, value in options.items()
        }

        def op(z: Tensor, k: Tensor, options: dict[str, object] = options) -> Tensor:
            return gated_conv(z, k, backend=backend, **options)  # type: ignore[arg-type]

        def expected(z: Tensor, k: Tensor, wide: dict[str, object] = wide) -> Tensor:
            return naive.gated_conv(z.double(), k.double(), **wide).float()  # type: ignore[arg-type]

        assert_all_close(with_gradients(op, z, k), with_gradients(expected, z, k), 1e-6)


@pytest.mark.parametrize("backend", backends())
def test_the_order_of_the_channels(backend: str, generator: torch.Generator) -> None:
    """The gate after the convolution, the gate before it, the value."""
    z, k, skip, *_ = draw(generator, 2, 3, 30, 30, dtype=FLOAT32)
    post, pre, value = z.split(3, dim=1)
    y = gated_conv(z, k, skip, backend=backend)
    assert_close(y, post * long_conv(pre * value, k, skip), 1e-6)


@pytest.mark.parametrize("backend", backends())
@pytest.mark.parametrize("causal", [True, False])
def test_any_strides(causal: bool, backend: str, generator: torch.Generator) -> None:
    inputs = draw(generator, 3, 4, 20, 19, dtype=FLOAT32)
    expected = with_gradients(definition(causal=causal), *inputs)
    z, k, skip, taps, bias = inputs
    dy = torch.randn(3, 4, 20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for view in (
        z.transpose(1, 2).contiguous().transpose(1, 2),  # (B, L, D) in memory
        z.repeat_interleave(2, -1)[..., ::2],
        z.transpose(0, 1).contiguous().transpose(0, 1),
        torch.cat([z, z], dim=-1)[..., 20:],
        z.flip(-1).contiguous().flip(-1),
    ):
        leaves = [
            view.detach().requires_grad_(),
            k.t().contiguous().t().requires_grad_(),
            skip.repeat_interleave(3)[::3].requires_grad_(),
            taps.t().contiguous().t().requires_grad_(),
            bias.repeat_interleave(3)[::3].requires_grad_(),
        ]
        y = fast(causal=causal, backend=backend)(*leaves)
        for gradient in (dy, dy.transpose(1, 2).contiguous().transpose(1, 2)):
            got = torch.autograd.grad(y, leaves, gradient.float(), retain_graph=True)
            assert_all_close([y, *got], expected, 1e-6)
    k = k[:1].expand(4, 19)
    y = gated_conv(z, k, skip, short=(taps, bias), causal=causal, backend=backend)
    assert_close(y, definition(causal=causal)(z, k, skip, taps, bias), 1e-6)
    constant = torch.ones(()).expand(3, 4, 20)  # the gradient of a sum: every stride is zero
    leaf = z.detach().requires_grad_()
    y = gated_conv(leaf, k, skip, causal=causal, backend=backend)
    [got] = torch.autograd.grad(y, leaf, constant)
    leaf = z.double().requires_grad_()
    y = naive.gated_conv(leaf, k.double(), skip.double(), causal=causal)
    [wanted] = torch.autograd.grad(y.sum(), leaf)
    assert_close(got, wanted.float(), 1e-6)


@pytest.mark.parametrize("backend", backends())
@pytest.mark.parametrize("shape", [(0, 3, 5), (2, 0, 5), (2, 3, 0)])
def test_empty_inputs(shape: tuple[int, int, int], backend: str) -> None:
    B, D, L = shape
    z = torch.zeros(B, 3 * D, L, dtype=torch.bfloat16, requires_grad=True)
    k, skip = torch.randn(D, 4, requires_grad=True), torch.randn(D, requires_grad=True)
    taps, bias = torch.randn(3 * D, 3, requires_grad=True), torch.randn(3 * D, requires_grad=True)
    y = gated_conv(z, k, skip, short=(taps, bias), backend=backend)
    assert (y.shape, y.dtype) == (shape, torch.bfloat16)
    leaves = (z, k, skip, taps, bias)
    first = torch.autograd.grad(y.sum(), leaves, create_graph=True)
    second = torch.autograd.grad(sum(x.sum() for x in first), leaves)
    for gradients in (first, second):
        for x, gradient in zip(leaves, gradients, strict=True):
            assert torch.equal(gradient, torch.zeros_like(x))


@pytest.mark.parametrize("backend", backends())
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("K", [1, 5, 41])
def test_packed_documents_equal_separate_ones(
    K: int, causal: bool, backend: str, generator: torch.Generator
) -> None:
    inputs = draw(generator, 2, 3, 23, K, dtype=FLOAT32)
    ids = torch.tensor([[0] * 9 + [1] * 1 + [2] * 8 + [3] * 5, [5] * 2 + [0] * 21])
    segments = Segments.from_document_ids(ids)

    def separate(z: Tensor, *filters: Tensor) -> Tensor:
        pieces = [
            definition(causal=causal)(z[row : row + 1, :, a:b], *filters)
            for row, a, b in segments.spans
        ]
        return torch.cat([torch.cat(pieces[:4], dim=-1), torch.cat(pieces[4:], dim=-1)])

    got = with_gradients(fast(causal=causal, segments=segments, backend=backend), *inputs)
    assert_all_close(got, with_gradients(separate, *inputs), 1e-6)


@pytest.mark.parametrize("backend", backends())
def test_nan_stays_in_its_channel_and_document(backend: str, generator: torch.Generator) -> None:
    z, k, skip, taps, bias = draw(generator, 2, 3, 8, 8, dtype=FLOAT32)
    z[0, 4, 3] = float("nan")  # channel 1, of the gate before
    segments = Segments.from_document_ids(torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1]] * 2))
    y = gated_conv(z, k, skip, short=(taps, bias), segments=segments, backend=backend)
    broken = y.isnan()
    assert bool(broken[0, 1, 3])
    broken[0, 1, :4] = False
    assert not bool(broken.any())


@pytest.mark.parametrize(("backend", "dtype"), cases(TOLERANCE, without="naive"))
@pytest.mark.parametrize("causal", [True, False])
def test_a_filter_spectrum_stands_for_its_filter(
    causal: bool, backend: str, dtype: torch.dtype, generator: torch.Generator
) -> None:
    for L, K in [(1, 1), (21, 9), (21, 45), (600, 599)]:
        inputs = draw(generator, 2, 3, L, K, dtype=dtype)
        z, k, skip, taps, bias = inputs
        kept = filter_spectrum(k, L, skip, causal=causal, backend=backend)

        def op(z: Tensor, taps: Tensor, bias: Tensor, kept: object = kept) -> Tensor:
            options = {"short": (taps, bias), "causal": causal, "backend": backend}
            return gated_conv(z, kept, **options)  # type: ignore[arg-type]

        y, dz, _, _, dtaps, dbias = with_gradients(definition(causal=causal), *inputs)
        got = with_gradients(op, z, taps, bias)
        assert_all_close(got, [y, dz, dtaps, dbias], TOLERANCE[dtype])


@pytest.mark.cpu
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("backend", backends())
def test_autocast_rounds_nothing(backend: str, autocast: bool, generator: torch.Generator) -> None:
    inputs = draw(generator, 2, 3, 63, 63, dtype=FLOAT32)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        got = with_gradients(fast(backend=backend), *inputs)
    assert_all_close(got, with_gradients(definition(), *inputs), 1e-6)


def test_the_parts_that_it_is_made_of(generator: torch.Generator) -> None:
    z, k, skip, taps, bias = draw(generator, 2, 3, 25, 25)
    post, pre, value = short_conv(z, taps, bias).chunk(3, dim=1)
    expected = post * long_conv(pre * value, k, skip)
    assert torch.equal(gated_conv(z, k, skip, short=(taps, bias), backend="torch"), expected)


@pytest.mark.parametrize("causal", [True, False])
def test_first_and_second_derivatives(causal: bool, generator: torch.Generator) -> None:
    inputs = [x.requires_grad_() for x in draw(generator, 1, 2, 4, 3)]
    assert torch.autograd.gradcheck(fast(causal=causal), inputs)
    assert torch.autograd.gradgradcheck(fast(causal=causal), inputs)


def test_vmap_and_gradients_of_each_sample(generator: torch.Generator) -> None:
    z, k, skip, taps, bias = draw(generator, 4, 2, 9, 9)

    def one(k: Tensor, taps: Tensor, row: Tensor) -> Tensor:
        return gated_conv(row[None], k, skip, short=(taps, bias))[0]

    got = torch.func.vmap(one, (None, None, 0))(k, taps, z)
    assert_close(got, gated_conv(z, k, skip, short=(taps, bias)), 1e-14)
    gradient = torch.func.grad(lambda *x: one(*x).pow(2).sum(), (0, 1))
    got = torch.func.vmap(gradient, (None, None, 0))(k, taps, z)
    expected = [torch.stack(x) for x in zip(*(gradient(k, taps, row) for row in z), strict=True)]
    assert_all_close(got, expected, 1e-14)


def test_meta_tensors() -> None:
    z = torch.empty(2, 9, 7, device="meta", dtype=torch.bfloat16)
    k, taps = torch.empty(3, 7, device="meta"), torch.empty(9, 3, device="meta")
    y = gated_conv(z, k, short=(taps, None))
    assert (y.shape, y.dtype, y.device.type) == ((2, 3, 7), torch.bfloat16, "meta")


# PyTorch's tracer makes an instance of the autograd function, of which PyTorch warns.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("backend", backends())
@pytest.mark.parametrize("causal", [True, False])
def test_compiles_to_one_graph(causal: bool, backend: str, generator: torch.Generator) -> None:
    torch.compiler.reset()  # the limit on compiling one function again counts across tests
    inputs = draw(generator, 2, 3, 5, 5, dtype=FLOAT32)  # the definition is a graph of every tap
    op = fast(causal=causal, backend=backend)
    compiled = torch.compile(op, fullgraph=True, backend="aot_eager")
    assert_all_close(with_gradients(compiled, *inputs), with_gradients(op, *inputs), 1e-6)


@pytest.mark.cpu
def test_arguments_that_do_not_fit() -> None:
    z, k = torch.zeros(2, 12, 10), torch.zeros(4, 10)
    expected = r"expected z \(B, 3·D, L\) and k \(D, K\), got"
    for message, bad in [
        (rf"{expected} \(12, 10\) and \(4, 10\)$", (z[0], k)),
        (rf"k has 12 channels but z has 12; {expected} \(2, 12, 10\) and", (z, k.repeat(3, 1))),
        (rf"k has 4 channels but z has 11; {expected}", (z[:, :11], k)),
        (r"the filter has no taps; expected k .* K ≥ 1, got \(4, 0\)$", (z, k[:, :0])),
        (r"expected floating point z, got torch.int64$", (z.long(), k)),
        (r"expected floating point k, got torch.int64$", (z, k.long())),
        (r"z is on cpu but k is on meta; move one of them$", (z, k.to("meta"))),
        (r"expected floating point skip of shape \(D,\) = \(4,\), got \(10,\)", (z, k, z[0, 0])),
    ]:
        with pytest.raises(ValueError, match=f"^gated_conv: {message}"):
            gated_conv(*bad)
    for message, short in [
        (r"gated_conv: expected short = \(taps .* or None, got Tensor$", torch.zeros(12, 3)),
        (
            r"gated_conv: short: k has 4 channels but z has 12; expected z \(B, D, L\) and k",
            (torch.zeros(4, 3), None),
        ),
        (
            r"gated_conv: short: expected floating point bias .* = \(12,\), got \(4,\) of",
            (torch.zeros(12, 3), torch.zeros(4)),
        ),
        (r"gated_conv: short: the filter has no taps", (torch.zeros(12, 0), None)),
    ]:
        with pytest.raises(ValueError, match=f"^{message}"):
            gated_conv(z, k, short=short)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^gated_conv: causal=False needs an odd .* got K = 10$"):
        gated_conv(z, k, causal=False)
    with pytest.raises(
        ValueError, match=r"^gated_conv: short: causal=False needs an odd .* K = 2$"
    ):
        gated_conv(z, k[:, :9], short=(torch.zeros(12, 2), None), causal=False)
    ids = Segments.from_document_ids(torch.arange(20).view(1, 20))
    with pytest.raises(
        ValueError,
        match=r"^gated_conv: segments describe a batch \(B, L\) = \(1, 20\), but z is \(B, 3·",
    ):
        gated_conv(z, k, segments=ids)
    with pytest.raises(ValueError, match=r"^backend='fast' is unknown; expected one of auto, "):
        gated_conv(z, k, backend="fast")  # type: ignore[arg-type]


@pytest.mark.cpu
def test_an_impossible_filter_spectrum_is_refused() -> None:
    z, k = torch.zeros(2, 9, 8), torch.zeros(3, 8)
    kept = filter_spectrum(k, 8)
    segments = Segments.from_document_ids(torch.arange(16).view(2, 8))
    for message, arguments, options in [
        (
            r".* made for 3 channels and length 8, but z is \(B, 3·D, L\) = \(2, 9, 7\)$",
            z[..., :7],
            {},
        ),
        (r".* made for 3 channels and length 8, but z is", z[:, :6], {}),
        (r".* got skip or packed .* pass the filter k instead$", z, {"skip": k[:, 0]}),
        (r".* got skip or packed .* pass the filter k instead$", z, {"segments": segments}),
        (r'backend="naive" sums over the taps of a filter', z, {"backend": "naive"}),
        (r"block_causal=True sums over the taps of a filter", z, {"block_causal": True}),
        (r"z is on meta but the FilterSpectrum is on cpu; move one", z.to("meta"), {}),
        (r".* made with causal=True, got causal=False$", z, {"causal": False}),
        (r"expected floating point z \(B, 3·D, L\), got .* of torch.int64$", z.long(), {}),
    ]:
        with pytest.raises(ValueError, match=f"^gated_conv: {message}"):
            gated_conv(arguments, kept, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("narrow", ["k", "skip", "taps", "bias"])
def test_a_float64_input_loses_nothing_to_a_narrower_argument(
    narrow: str, generator: torch.Generator
) -> None:
    names = ("z", "k", "skip", "taps", "bias")
    given = dict(zip(names, draw(generator, 2, 3, 40, 40), strict=True))
    given[narrow] = given[narrow].float()
    expected = definition()(*(x.double() for x in given.values()))
    assert_close(fast(backend="torch")(*given.values()), expected, 1e-14)
    given["k"], given["skip"] = given["k"].float(), given["skip"].float()
    expected = definition()(*(x.double() for x in given.values()))
    assert_close(fast(backend="torch")(*given.values()), expected, 1e-14)
