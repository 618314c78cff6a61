"""Every bfloat16 and float16 number as the kernel reads it, and how it rounds to them."""

import pytest
import torch
from torch import Tensor

from hyena.ops import short_conv

DTYPES = [torch.bfloat16, torch.float16]


def every(dtype: torch.dtype) -> Tensor:
    """All 65536 numbers: zeros, subnormals, infinities and NaN of both signs among them."""
    return torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16).view(dtype)


def once(u: Tensor, factor: Tensor) -> Tensor:
    """u (1, D, L) times a factor (D,) a channel, in float32, rounded to u's dtype."""
    return short_conv(u, factor[:, None], backend="native")


def assert_same(got: Tensor, expected: Tensor) -> None:
    """Equal, to the sign of what is not zero, and NaN where NaN is expected."""
    assert got.dtype == expected.dtype
    assert torch.equal(got.isnan(), expected.isnan())
    assert torch.equal(got.nan_to_num(), expected.nan_to_num())


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_number_is_read_and_written(dtype: torch.dtype) -> None:
    """In vectors, in a row that ends between two of them, and one at a time."""
    numbers = every(dtype)
    for row in (numbers.view(1, 1, -1), numbers[:-3].view(1, 1, -1), numbers.view(-1, 1, 1)):
        assert_same(once(row, torch.ones(1)), row)
    row = numbers.view(1, 1, -1)
    finite = torch.where(row.float().abs() < 1, row, 0)
    assert_same(once(finite, torch.full((1,), 0.5)), (finite.float() * 0.5).to(dtype))


def to_be_rounded(dtype: torch.dtype) -> Tensor:
    """Float32 numbers on, between and just beside the narrow ones, and some that are beyond."""
    numbers = every(dtype).float()
    numbers = numbers[numbers.isfinite()].unique()  # in order
    middle = numbers[:-1] / 2 + numbers[1:] / 2
    exact = [numbers, middle]
    exact += [torch.nextafter(x, torch.tensor(s * torch.inf)) for x in exact for s in (1, -1)]
    largest = torch.finfo(dtype).max
    step = largest - float(numbers[-2])  # what is half of it beyond the largest is infinite
    beyond = torch.tensor(
        [largest + 0.49 * step, largest + 0.5 * step, largest + step, 3.4e38, torch.inf],
        dtype=torch.float64,
    ).float()
    tiny = torch.tensor([1e-45, 1e-40, 1e-38, 2.0**-25, 2.0**-24 * 0.51, 2.0**-126])
    others = torch.tensor([0.0, torch.nan])
    return torch.cat([*exact, beyond, -beyond, tiny, -tiny, others]).unique()


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_are_rounded_to_the_nearest_and_ties_to_even(dtype: torch.dtype) -> None:
    numbers = to_be_rounded(dtype)
    assert numbers.numel() > 300_000
    expected = numbers.to(dtype)
    ones = torch.ones(1, numbers.numel(), 17, dtype=dtype)  # whole vectors, and one more
    got = once(ones, numbers)
    for t in (0, 7, 16):
        assert_same(got[0, :, t], expected)
    assert torch.equal(got.nan_to_num(), got[..., :1].expand_as(got).nan_to_num())


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_nan_stays_one(dtype: torch.dtype) -> None:
    """Whatever its bits: were they rounded as a number's are, some would come out infinite."""
    bits = torch.cat(
        [
            torch.tensor([0x7F800001, 0x7FFFFFFF, 0x7FC00000, 0x7F80FFFF, 0x7F801000, 0x7FFF8000]),
            torch.randint(0x7F800001, 0x80000000, (1000,)),
        ]
    ).to(torch.int32)
    numbers = bits.view(torch.float32)
    assert bool(numbers.isnan().all())
    got = once(torch.ones(1, numbers.numel(), 17, dtype=dtype), numbers)
    assert bool(got.isnan().all())
