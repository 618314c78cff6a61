"""What the kernel reads and writes: inputs however they lie in memory, outputs whole and alone."""

from collections.abc import Callable
from functools import partial
from itertools import product

import pytest
import torch
from comparison import assert_close, with_gradients
from kernel_cases import NARROW, assert_right, by_fft, draw, in_place, native
from torch import Tensor

from hyena.ops import Segments, _check, filter_spectrum, gated_conv, long_conv, short_conv
from hyena.ops.native import _call

DTYPES = [torch.float32, *NARROW]
LENGTHS = [1, 3, 16, 100, 256, 384, 385, 1000]


def channels_last(x: Tensor) -> Tensor:
    return x.transpose(-1, -2).contiguous().transpose(-1, -2)


def channels_outside(x: Tensor) -> Tensor:
    return x.transpose(0, 1).contiguous().transpose(0, 1)


def every_other(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, -1)[..., ::2]


def odd_offset(x: Tensor) -> Tensor:
    """Rows that begin at no address that a vector would like, with NaN around them."""
    wide = torch.full((*x.shape[:-1], x.shape[-1] + 5), torch.nan, dtype=x.dtype)
    wide[..., 3:-2] = x
    return wide[..., 3:-2]


def every_other_channel(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, 1)[:, ::2]


def reversed_twice(x: Tensor) -> Tensor:
    return x.flip(-1).contiguous().flip(-1)


def negative(x: Tensor) -> Tensor:
    """A view that is only marked as negated."""
    return torch.complex(torch.zeros_like(x), -x).conj().imag if x.dtype == torch.float32 else x


VIEWS = [
    channels_last,
    channels_outside,
    every_other,
    odd_offset,
    every_other_channel,
    reversed_twice,
    negative,
]


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("view", VIEWS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("L", [1, 21, 400])
def test_inputs_and_gradients_of_any_strides(
    L: int, view: Callable[[Tensor], Tensor], dtype: torch.dtype
) -> None:
    inputs = draw(3, 4, L, L, dtype=dtype)
    plain = with_gradients(native(), *inputs)
    dy = torch.randn(3, 4, L, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    z, k, skip, taps, bias = inputs
    leaves = [
        view(z),
        channels_last(k),
        skip.repeat_interleave(3)[::3],
        channels_last(taps),
        bias.repeat_interleave(3)[::3],
    ]
    leaves = [x.detach().requires_grad_() for x in leaves]
    assert torch.equal(leaves[0], z)
    y = native()(*leaves)
    got = [y, *torch.autograd.grad(y, leaves, view(dy.to(dtype)))]
    for a, b in zip(got, plain, strict=True):
        assert torch.equal(a, b)  # the same numbers go in, so the same bits come out


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("L", [1, 21, 400])
def test_tensors_that_are_only_marked_as_negated(L: int) -> None:
    """Each argument in turn, dy and the output among them."""
    inputs = draw(2, 3, L, L)
    z, k, skip = inputs[:3]
    offset = torch.randn(9)
    dy = torch.randn(2, 3, L)

    def calls(z: Tensor, k: Tensor, skip: Tensor, taps: Tensor, bias: Tensor) -> list[Tensor]:
        leaves = [x.detach().requires_grad_() for x in (z, k, skip, taps, bias)]
        y = native()(*leaves)
        short = short_conv(leaves[0], *leaves[3:], backend="native")
        found = torch.autograd.grad(y, leaves, negative(dy) if z is inputs[0] else dy)
        found += torch.autograd.grad(short.sum(), [leaves[0], *leaves[3:]])
        with torch.no_grad():
            kept = filter_spectrum(k, L, skip, backend="native")
            found += (gated_conv(z, kept, short=(taps, bias), backend="native"),)
        return [y, short, kept.values, *found]

    expected = calls(*inputs)
    for i, x in enumerate(inputs):
        marked = negative(x.reshape(1, -1)).reshape(x.shape)
        assert marked.is_neg()
        assert torch.equal(marked, x)
        got = calls(*inputs[:i], marked, *inputs[i + 1 :])
        for a, b in zip(got, expected, strict=True):
            assert torch.equal(a, b)
    y = in_place(*inputs, offset=offset)
    assert torch.equal(in_place(*inputs, offset=negative(offset[None])[0]), y)
    kept = filter_spectrum(k, L, skip, backend="native")
    marked = kept._replace(values=negative(kept.values[None])[0])
    assert torch.equal(long_conv(z[:, :3], marked), long_conv(z[:, :3], kept))


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("L", [21, 400])
def test_tensors_that_repeat_themselves(L: int) -> None:
    """Strides of zero: one row for the whole batch, one filter for all channels, dy of a sum."""
    z, k, skip, taps, bias = draw(1, 4, L, L)
    inputs = (z.expand(3, -1, -1), k[:1].expand(4, -1), skip[:1].expand(4), taps, bias)
    solid = [x.contiguous() for x in inputs]
    leaves = [x.requires_grad_() for x in inputs]
    y = native()(*leaves)
    others = [x.requires_grad_() for x in solid]
    expected = native()(*others)
    assert torch.equal(y, expected)
    one = torch.ones(())
    got = torch.autograd.grad(y, leaves, one.expand(3, 4, L))
    wanted = torch.autograd.grad(expected, others, one.expand(3, 4, L).contiguous())
    for a, b in zip(got, wanted, strict=True):
        assert torch.equal(a, b)


@pytest.mark.usefixtures("isa", "poisoned")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("L", LENGTHS)
def test_every_number_is_written(L: int, dtype: torch.dtype) -> None:
    """Outputs and gradients are new memory, here full of NaN, and nothing of it is left."""
    ids = torch.arange(L).div(7, rounding_mode="floor").expand(2, L) + 100 * torch.eye(2, L).long()
    documents = Segments.from_document_ids(ids)
    for causal, segments, K in product((True, False), (documents, None), (1, 2 * L + 1)):
        options = {"causal": causal, "segments": segments, "backend": "native"}
        inputs = draw(2, 5, L, K, dtype=dtype)
        gated = with_gradients(native(causal=causal, segments=segments), *inputs)
        z, k, skip, taps, bias = inputs
        long = with_gradients(partial(long_conv, **options), z[:, :5], k, skip)
        short = with_gradients(partial(short_conv, **options), z, taps, bias)
        for x in (*gated, *long, *short):
            assert bool(x.isfinite().all())
        if segments is None:
            kept = filter_spectrum(k, L, skip, causal=causal, backend="native")
            assert_right([gated_conv(z, kept, short=(taps, bias), causal=causal)], gated[:1])


def guarded(B: int, D: int, L: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Memory full of one odd number, and a part of it (B, D, L) of which no two rows touch."""
    memory = torch.full((B + 1, D + 2, L + 5), 77.25, dtype=dtype)
    return memory, memory[1:, 1:-1, 3 : 3 + L]


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("L", LENGTHS)
def test_nothing_is_written_beside_the_output(L: int, dtype: torch.dtype) -> None:
    z, k, skip, taps, bias = draw(2, 17, L, L, dtype=dtype)
    ids = torch.arange(L).div(11, rounding_mode="floor").expand(2, L)
    for segments in (Segments.from_document_ids(ids), None):
        gated, long = guarded(2, 17, L, dtype), guarded(2, 17, L, dtype)
        y = gated_conv(z, k, skip, short=(taps, bias), segments=segments, backend="native")
        assert in_place(z, k, skip, taps, bias, out=gated[1], segments=segments) is gated[1]
        assert torch.equal(gated[1], y)
        u = z[:, :17]
        c = _check.convolution("long_conv", u, k, skip, segments=segments)
        assert _call.forward(c, out=long[1]) is long[1]
        assert torch.equal(long[1], long_conv(u, k, skip, segments=segments, backend="native"))
        for memory, out in (gated, long):
            out.fill_(77.25)
            assert bool((memory == 77.25).all())


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("L", LENGTHS)
def test_the_output_may_take_the_place_of_the_value(L: int, dtype: torch.dtype) -> None:
    """A row is read whole before any of it is written, and no other row's value is."""
    z, k, skip, taps, bias = draw(2, 17, L, L, dtype=dtype)
    for short in (None, (taps, bias)):
        expected = gated_conv(z, k, skip, short=short, backend="native")
        place = z.clone()
        y = in_place(place, k, skip, *(short or ()), out=place[:, 34:])
        assert torch.equal(y, expected)
        assert torch.equal(place[:, :34], z[:, :34])


@pytest.mark.parametrize("L", [33, 700])
def test_the_defaults_of_pytorch_change_nothing(L: int) -> None:
    inputs = draw(2, 3, L, L)
    segments = Segments.from_document_ids(
        torch.arange(L).div(9, rounding_mode="floor").expand(2, L)
    )
    expected = with_gradients(native(segments=segments), *inputs)
    kept = filter_spectrum(inputs[1], L, backend="native")
    dy = torch.randn(2, 3, L, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for setting in (torch.device("meta"), _default_dtype(torch.float64)):
        leaves = [x.clone().requires_grad_() for x in inputs]
        with setting:
            y = native(segments=segments)(*leaves)
            got = [y.detach(), *torch.autograd.grad(y, leaves, dy.float())]
            again = filter_spectrum(inputs[1], L, backend="native")
        for a, b in zip([*got, again.values], [*expected, kept.values], strict=True):
            assert torch.equal(a, b)


class _default_dtype:  # noqa: N801
    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype

    def __enter__(self) -> None:
        torch.set_default_dtype(self.dtype)

    def __exit__(self, *_: object) -> None:
        torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e30])
@pytest.mark.parametrize("L", [9, 40, 384, 385, 900])
def test_a_channel_and_a_document_are_alone(L: int, value: float) -> None:
    """No number of one row gets into another, though lanes of a vector lie side by side."""
    z, k, skip, taps, bias = draw(2, 18, L, L)
    half = L // 2
    segments = Segments.from_document_ids((torch.arange(L) >= half).long().expand(2, L))
    moved = z.clone()
    moved[0, 18 + 4, half] = value  # channel 4 of the gate before, second document
    options = {"short": (taps, bias), "segments": segments, "backend": "native"}
    y, after = gated_conv(z, k, skip, **options), gated_conv(moved, k, skip, **options)
    changed = (y != after) | after.isnan()
    assert bool(changed[0, 4, half:].any())
    changed[0, 4, half:] = False
    assert not bool(changed.any())
    filters = k.clone()
    filters[7] = value
    after = gated_conv(z, filters, skip, **options)
    changed = (y != after) | after.isnan()
    assert bool(changed[:, 7].any())
    changed[:, 7] = False
    assert not bool(changed.any())


@pytest.mark.usefixtures("isa")
def test_rows_after_a_broken_one() -> None:
    """Scratch memory is used again, and holds NaN then; short rows follow long ones."""
    for L in (1000, 384, 385, 20, 3, 1):
        inputs = draw(2, 3, L, L)
        expected = with_gradients(by_fft(), *inputs)
        for broken in range(5):
            bad = [x.clone() for x in inputs]
            bad[broken].fill_(torch.nan)
            native()(*bad)
        assert_right(with_gradients(native(), *inputs), expected)


@pytest.mark.usefixtures("isa")
def test_the_batch_and_the_channels_do_not_matter() -> None:
    """Each row and channel gives the same bits on its own."""
    for L in (50, 384, 600):
        z, k, skip, taps, bias = draw(3, 18, L, L)
        whole = gated_conv(z, k, skip, short=(taps, bias), backend="native")
        parts = z.view(3, 3, 18, L)
        short = taps.view(3, 18, 3), bias.view(3, 18)
        for b, d in ((0, 0), (1, 5), (2, 17)):
            alone = gated_conv(
                parts[b : b + 1, :, d],
                k[d : d + 1],
                skip[d : d + 1],
                short=(short[0][:, d], short[1][:, d]),
                backend="native",
            )
            assert torch.equal(alone[0, 0], whole[b, d])


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize(
    ("L", "J"), [(66000, 3), (66001, 0)]
)  # rows that begin at a vector, or not
def test_outputs_too_large_for_the_caches(L: int, J: int) -> None:
    """Are written past them, in vectors from other positions on than in a quarter of them."""
    D, parts = 64, 4
    inputs = draw(1, D, L, 300)[: 5 if J else 3]
    dy = torch.randn(1, D, L)

    def gradients(z: Tensor, dy: Tensor, *filters: Tensor) -> list[Tensor]:
        leaves = [x.requires_grad_() for x in (z, *filters)]
        y = native()(*leaves)
        with torch.no_grad():
            assert_close(in_place(*leaves, out=torch.empty(y.shape)), y, 4e-7)
        return [y.detach(), *torch.autograd.grad(y, leaves, dy)]

    def part(x: Tensor, i: int) -> Tensor:
        """Of channels (D, …), or of three times as many."""
        groups = x.unflatten(0, (-1, D))[:, i * D // parts : (i + 1) * D // parts]
        return groups.flatten(0, 1).clone()

    whole = gradients(inputs[0], dy, *inputs[1:])
    for i in range(parts):
        z, *filters = inputs
        pieces = [part(x.detach(), i) for x in (z[0], dy[0], *filters)]
        alone = gradients(pieces[0][None], pieces[1][None], *pieces[2:])
        for index, (a, b) in enumerate(zip(alone, whole, strict=True)):
            expected = part(b[0] if index < 2 else b, i)
            assert_close(a[0] if index < 2 else a, expected, 4e-7)


@pytest.mark.usefixtures("isa")
def test_the_gradient_of_a_sum_that_is_one_number() -> None:
    z, k, skip, *_ = draw(2, 3, 50, 50)
    leaf = z.requires_grad_()
    [got] = torch.autograd.grad(gated_conv(leaf, k, skip, backend="native").sum(), leaf)
    wide = z.detach().double().requires_grad_()
    [expected] = torch.autograd.grad(gated_conv(wide, k.double(), skip.double()).sum(), wide)
    assert_close(got, expected.float(), 4e-7)
