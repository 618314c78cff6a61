"""The kernel against the definition in float64: output and every gradient, in each build."""

from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
from comparison import assert_close, with_gradients
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import (
    NARROW,
    TOLERANCE,
    all_sizes,
    assert_each_build_right,
    assert_right,
    by_fft,
    definition,
    draw,
    in_place,
    native,
    odd,
)
from torch import Tensor

from hyena.ops import Segments, filter_spectrum, gated_conv, long_conv, naive, short_conv
from hyena.ops.native import library
from hyena.ops.native.operator import in_time_domain

SIZES = [  # B, D, L, K, J
    (1, 1, 1, 1, 1),
    (3, 2, 1, 7, 5),  # K > L and J > L
    (1, 5, 2, 2, 2),
    (2, 3, 3, 1, 4),
    (1, 16, 7, 7, 3),  # as many channels as there are lanes
    (2, 17, 16, 15, 7),  # and one more
    (1, 33, 31, 64, 2),  # K > L and K > n
    (4, 3, 97, 20, 5),
    (1, 9, 200, 199, 3),
    (2, 17, 250, 256, 3),  # in rows where vectors are wide
    (2, 2, 384, 384, 4),  # the last size in lanes of channels
    (2, 3, 385, 380, 3),  # the first in rows
    (1, 1, 600, 1000, 7),
    (5, 1, 769, 5, 64),
]
DTYPES = [torch.float32, *NARROW]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("B", "D", "L", "K", "J"), SIZES)
def test_equals_the_definition(
    B: int, D: int, L: int, K: int, J: int, causal: bool, dtype: torch.dtype
) -> None:
    inputs = draw(B, D, L, K, J, dtype) if causal else draw(B, D, L, odd(K), min(odd(J), 63), dtype)
    assert_each_build_right(
        lambda: with_gradients(native(causal=causal), *inputs),
        with_gradients(definition(causal=causal), *inputs),
    )


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("isa", "shortest", "n"), all_sizes(8192))
def test_every_size_of_a_transform(isa: str, shortest: int, n: int, causal: bool) -> None:
    """The shortest and the longest row that a size serves, with a filter that is as long."""
    D = 17 if n <= 384 else 2
    for L in sorted({shortest, n}):
        inputs = draw(2, D, L, L if causal else 2 * L - 1)
        with library.use(isa):
            got = with_gradients(native(causal=causal), *inputs)
        assert_right(got, with_gradients(by_fft(causal=causal), *inputs))


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("L", [10007, 40960, 65536, 98304, 131072])
def test_long_rows(L: int, causal: bool) -> None:
    inputs = draw(1, 1, L, L if causal else 2 * L - 1)
    assert_each_build_right(
        lambda: with_gradients(native(causal=causal), *inputs),
        with_gradients(by_fft(causal=causal), *inputs),
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("L", "K"), [(1, 1), (6, 31), (50, 50), (384, 385), (700, 699)])
def test_without_gates(L: int, K: int, causal: bool, dtype: torch.dtype) -> None:
    z, k, skip, *_ = draw(2, 5, L, K if causal else odd(K), dtype=dtype)
    u = z[:, :5]

    def op(u: Tensor, k: Tensor, skip: Tensor) -> Tensor:
        return long_conv(u, k, skip, causal=causal, backend="native")

    def expected(u: Tensor, k: Tensor, skip: Tensor) -> Tensor:
        wide = (x.double() for x in (u, k, skip))
        return naive.long_conv(*wide, causal=causal).to(u.dtype)

    assert_each_build_right(
        lambda: with_gradients(op, u, k, skip), with_gradients(expected, u, k, skip)
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(
    ("B", "D", "L", "K"),
    [
        (3, 2, 1, 1),
        (2, 17, 33, 31),
        (1, 3, 256, 300),
        (1, 2, 385, 384),
        (2, 2, 512, 5),
        (1, 2, 1025, 1500),
    ],
)
def test_gates_without_a_short_convolution(
    B: int, D: int, L: int, K: int, causal: bool, dtype: torch.dtype
) -> None:
    """The root of the transform reads the gates and writes their gradients itself."""
    inputs = draw(B, D, L, K if causal else odd(K), dtype=dtype)[:3]
    assert_each_build_right(
        lambda: with_gradients(native(causal=causal), *inputs),
        with_gradients(definition(causal=causal), *inputs),
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("L", [1, 2, 40, 1023, 1024, 1025, 2100])  # gradients go in pieces
def test_short_convolutions(L: int, dtype: torch.dtype) -> None:
    for J, causal in product((1, 2, 3, 4, 5, 7, 17, 63, 64, 65, 127, 128, 129), (True, False)):
        if not causal and J % 2 == 0:
            continue
        if J > 128:  # too many: PyTorch takes them, and in narrow dtypes rounds each term
            dtype = torch.float32
        z, _, _, taps, bias = draw(2, 1, L, 1, J, dtype)

        def expected(u: Tensor, k: Tensor, bias: Tensor, causal: bool = causal) -> Tensor:
            wide = (x.double() for x in (u, k, bias))
            return naive.short_conv(*wide, causal=causal).to(u.dtype)

        op = partial(short_conv, causal=causal, backend="native")
        assert_each_build_right(
            partial(with_gradients, op, z, taps, bias),
            with_gradients(expected, z, taps, bias),
            sums=2,
        )


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("B", "D", "L", "K"),
    [
        (2, 3, 32, 1),
        (1, 17, 60, 7),
        (3, 2, 300, 7),
        (1, 3, 520, 127),
        (2, 2, 2100, 128),
        (40, 1, 600, 9),
    ],
)
def test_few_taps(B: int, D: int, L: int, K: int, dtype: torch.dtype) -> None:
    """A filter that is short against its row is summed in the time domain, with its gates."""
    for J, causal in product((0, 1, 3, 5), (True, False)):
        taps = K if causal else K - 1 + K % 2
        inputs = draw(B, D, L, taps, max(J, 1), dtype)[: 5 if J else 3]
        got = with_gradients(native(causal=causal), *inputs)
        assert_right(got, with_gradients(by_fft(causal=causal), *inputs))
        kept = filter_spectrum(inputs[1], L, inputs[2], causal=causal, backend="native")
        again = in_place(inputs[0], kept, None, *inputs[3:], causal=causal)
        assert_right([again], got[:1])
        place = inputs[0].clone()  # y takes the place of the value
        y = in_place(place, *inputs[1:], out=place[:, 2 * D :], causal=causal)
        assert torch.equal(y, got[0])


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("J", [0, 3, 5])
def test_few_taps_are_exactly_causal(J: int) -> None:
    inputs = draw(2, 3, 300, 40, max(J, 1))[: 5 if J else 3]
    y = native()(*inputs)
    for t in (0, 77, 299):
        moved = inputs[0].clone()
        moved[..., t] = torch.nan
        z = native()(moved, *inputs[1:])
        assert torch.equal(z[..., :t], y[..., :t])


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("K", [1, 33, 1201])
def test_packed_documents(K: int, causal: bool, dtype: torch.dtype) -> None:
    """Of all sizes side by side: in lanes and in rows, shorter and longer than the filter."""
    L = 1200
    inputs = draw(3, 2, L, K if causal else odd(K), 3, dtype)
    lengths = [1, 2, 1, 3, 60, 400, 33, 700]
    ids = torch.stack(
        [
            torch.arange(8).repeat_interleave(torch.tensor(lengths)),
            torch.zeros(L, dtype=torch.int64),
            torch.arange(L) // 150,
        ]
    )
    segments = Segments.from_document_ids(ids)

    def separate(z: Tensor, *filters: Tensor) -> Tensor:
        """Each document on its own."""
        rows: list[list[Tensor]] = [[], [], []]
        for row, a, b in segments.spans:
            rows[row].append(by_fft(causal=causal)(z[row : row + 1, :, a:b], *filters))
        return torch.cat([torch.cat(pieces, dim=-1) for pieces in rows])

    got = with_gradients(native(causal=causal, segments=segments), *inputs)
    assert_right(got, with_gradients(separate, *inputs))


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("L", [40, 900])
def test_taps_that_no_document_is_long_enough_for(L: int) -> None:
    """Have a gradient of exactly zero."""
    longest = L // 3
    segments = Segments.from_document_ids(torch.arange(L).div(longest, rounding_mode="floor")[None])
    for causal, K in ((True, L), (False, 2 * L - 1)):
        inputs = draw(1, 3, L, K)
        dk = with_gradients(native(causal=causal, segments=segments), *inputs)[2]
        lag = torch.arange(K) - (0 if causal else L - 1)
        assert torch.equal(dk != 0, (lag.abs() < longest).expand(3, K))


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("L", [1, 5, 100, 384, 385, 1500])
def test_a_spectrum_that_is_kept(L: int, causal: bool, dtype: torch.dtype) -> None:
    """Instead of one that is computed on the way: for all rows at once, or for a single row."""
    options: dict[str, Any] = {"causal": causal, "backend": "native"}
    for B in (1, 2):
        z, k, skip, taps, bias = draw(B, 19, L, odd(L), 3, dtype)
        kept = filter_spectrum(k, L, skip, causal=causal, backend="native")

        def op(*x: Tensor, filter: Any) -> Tensor:
            z, taps, bias = x
            return gated_conv(z, *filter, short=(taps, bias), **options)

        through, without = (
            with_gradients(partial(op, filter=filter), z, taps, bias)
            for filter in ((kept,), (k, skip))
        )
        assert_right(through, without, sums=2)
        y = long_conv(z[:, :19], kept, causal=causal, backend="native")
        assert_right([y], [long_conv(z[:, :19], k, skip, **options)])


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("L", "K"), [(1, 1), (4, 5), (100, 101), (700, 701), (100, 7), (700, 65)])
def test_an_offset(L: int, K: int, dtype: torch.dtype) -> None:
    """Is part of the input, and so of no position that a short tap misses."""
    offset = torch.randn(15)
    ids = torch.arange(L).div(30, rounding_mode="floor").expand(2, L)
    documents = Segments.from_document_ids(ids)
    for J, segments, causal in product((0, 1, 3, 5), (documents, None), (True, False)):
        z, k, skip, *short = draw(2, 5, L, K, max(J, 1), dtype)
        options: dict[str, Any] = {"causal": causal, "segments": segments}
        filters = (k, skip, *short) if J else (k, skip)
        got = in_place(z, *filters, offset=offset, **options)
        shifted = z.double() + offset.double()[:, None]
        expected = by_fft(**options)(shifted, *filters)
        assert_close(got, expected.to(dtype), NARROW.get(dtype, 2e-6))
        if segments is None:
            kept = filter_spectrum(k, L, skip, causal=causal, backend="native")
            again = in_place(z, kept, None, *filters[2:], offset=offset, causal=causal)
            assert_right([again], [got])


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize(("L", "K"), [(70, 70), (500, 500), (70, 9), (500, 100)])
@pytest.mark.parametrize("J", [0, 3])
def test_only_the_gradients_that_are_asked_for(J: int, L: int, K: int) -> None:
    """The kernel leaves out what no gradient needs, and the rest does not change."""
    inputs = draw(2, 3, L, K)[: 5 if J else 3]
    dy = torch.randn(2, 3, L)
    leaves = [x.clone().requires_grad_() for x in inputs]
    expected = torch.autograd.grad(native()(*leaves), leaves, dy)
    for wanted in range(1, 2 ** len(inputs)):
        chosen = [bool(wanted >> i & 1) for i in range(len(inputs))]
        leaves = [x.clone().requires_grad_(n) for x, n in zip(inputs, chosen, strict=True)]
        needed = [x for x in leaves if x.requires_grad]
        got = iter(torch.autograd.grad(native()(*leaves), needed, dy))
        for gradient, n in zip(expected, chosen, strict=True):
            assert not n or torch.equal(next(got), gradient)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("L", [60, 700])
def test_filters_of_other_dtypes(L: int) -> None:
    """Narrow filters are widened, and their gradients rounded."""
    z, *filters = draw(2, 3, L, L)
    filters = [x.bfloat16() for x in filters]
    got = with_gradients(native(), z, *filters)
    assert_right(got, with_gradients(definition(), z, *filters))
    assert [x.dtype for x in got[2:]] == [torch.bfloat16] * 4


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("L", [40, 600])
def test_a_sum_over_many_rows(L: int) -> None:
    """Gradients of the filter add up over the batch."""
    inputs = draw(50, 2, L, L)
    assert_right(with_gradients(native(), *inputs), with_gradients(by_fft(), *inputs))


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("size", [1e-30, 1e-18, 1e15, 1e30])
@pytest.mark.parametrize("L", [40, 600])
def test_very_small_and_very_large_numbers(L: int, size: float) -> None:
    z, k, skip, *_ = draw(2, 3, L, L)
    u = size * z[:, :3]
    y = long_conv(u, k, skip, backend="native")
    expected = naive.long_conv(u.double(), k.double(), skip.double())
    assert_close(y, expected, TOLERANCE, dtype=torch.float32)


@st.composite
def packings(draw: st.DrawFn, batch: int, length: int) -> Segments | None:
    """No documents, or some."""
    if draw(st.booleans()):
        return None
    edges = draw(st.lists(st.integers(0, batch * length), max_size=8))
    cumulative = torch.tensor(sorted([0, *edges, batch * length]))
    return Segments.from_cu_seqlens(cumulative, batch, length)


@settings(max_examples=400)
@given(st.data(), st.sampled_from(library.isas() or ["none"]))
def test_any_sizes_and_settings(data: st.DataObject, isa: str) -> None:
    B, D = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 20))
    L = data.draw(st.one_of(st.integers(1, 40), st.integers(350, 420), st.integers(421, 1300)))
    K, J = data.draw(st.integers(1, L + 5)), data.draw(st.integers(0, 9))
    causal, dtype = data.draw(st.booleans()), data.draw(st.sampled_from(DTYPES))
    segments = data.draw(packings(B, L))
    if not causal:
        K, J = odd(K), J and odd(J)
    inputs = draw(B, D, L, K, max(J, 1), dtype)[: 5 if J else 3]
    options: dict[str, Any] = {"causal": causal, "segments": segments}
    with library.use(isa):
        got = with_gradients(native(**options), *inputs)
    expected = with_gradients(by_fft(**options), *inputs)
    assert [(x.shape, x.dtype) for x in got] == [(x.shape, x.dtype) for x in expected]
    # Several tensors as one, since in a short one everything may happen to cancel.
    for part, tolerance in [(slice(2), NARROW.get(dtype, 1e-6)), (slice(2, None), 2e-6)]:
        assert_close(flat(got[part]), flat(expected[part]), tolerance)


def flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([x.double().flatten() for x in tensors])


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize(
    ("taps", "length"), [(1, 4), (7, 32), (8, 31), (9, 32), (128, 512), (128, 500), (129, 9000)]
)
def test_which_filters_are_summed_in_the_time_domain(taps: int, length: int) -> None:
    """Those whose row keeps a NaN from what comes before it."""
    z, k, *_ = draw(1, 1, length, taps)
    z[:, 2, -1] = torch.nan
    y = gated_conv(z, k, backend="native")
    alone = bool(y[..., :-1].isfinite().all())
    assert in_time_domain(taps, length) == alone
