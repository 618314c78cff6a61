"""Numbers come out of their checks as ints and floats, and places of parameters as devices."""

import re
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from hyena.arguments import check_whole
from hyena.filters import (
    DiagonalSSM,
    ExplicitTaps,
    FourierTaps,
    HyenaFilter,
    LongFilter,
    TransferFunctionTaps,
)
from hyena.ops import Segments, filter_spectrum, naive
from hyena.ops.arguments import check_numbers, check_size, check_sizes, placement


@pytest.mark.parametrize("kind", [int, np.int8, np.uint8, np.int64, torch.tensor])
def test_whole_numbers_are_ints(kind: Any) -> None:
    sizes = check_sizes("layer", width=kind(100), depth=kind(3))
    assert sizes == (100, 3)
    assert [*map(type, sizes)] == [int, int]
    for whole in (check_whole("step", kind(100)), check_size("step", "length", kind(100))):
        assert (whole, type(whole)) == (100, int)
        assert 3 * whole == 300  # rather than what is left of it in 8 bits


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (torch.tensor(3, device="meta"), "tensor(..., device='meta', size=(), dtype=torch.int64)"),
        (10**5000, "an int of some 5001 digits"),
        (-(10**5000), "an int of some 5001 digits"),
        ([10**5000, 1], "[an int of some 5001 digits, 1]"),
        (np.True_, repr(np.True_)),
        (torch.tensor(True), "tensor(True)"),
        (1.5, "1.5"),
    ],
    ids=["meta", "5001 digits", "negative", "list", "truth", "tensor of truth", "float"],
)
def test_what_is_no_size_is_one_line(value: Any, shown: str) -> None:
    message = rf"^layer[^\n]*: expected [^\n]*, got {re.escape(shown)}$"
    with pytest.raises(ValueError, match=message):
        check_whole("layer: width", value)
    with pytest.raises(ValueError, match=message):
        check_sizes("layer", width=value)
    message = (
        r"^layer: expected (an integer as width, got \w+|width from 0 to 2\^48, got .* digits)$"
    )
    with pytest.raises((TypeError, ValueError), match=message):
        check_size("layer", "width", value)


@pytest.mark.parametrize("kind", [np.int8, np.uint64, torch.tensor])
def test_lengths_of_ops_and_filters_may_be_of_any_kind(kind: Any) -> None:
    filters = [
        HyenaFilter(3, 5),
        HyenaFilter(3, 5, bidirectional=True),
        *(LongFilter(make, 3, 5) for make in (ExplicitTaps(3, 4), FourierTaps(3, 2, 5))),
        *(LongFilter(make, 3, 5) for make in (DiagonalSSM(3), TransferFunctionTaps(3, 4))),
    ]
    with torch.no_grad():
        for filter in filters:
            assert torch.equal(filter(kind(5)), filter(5))
    k = torch.ones(3, 5)
    assert torch.equal(filter_spectrum(k, kind(5)).values, filter_spectrum(k, 5).values)
    segments = Segments.from_cu_seqlens(torch.tensor([0, 2, 6]), kind(2), kind(3))
    assert segments.spans == ((0, 0, 2), (0, 2, 3), (1, 0, 3))
    assert naive.lags(kind(3), causal=False) == range(-1, 2)
    assert torch.equal(naive.shift(k[None], kind(2)), naive.shift(k[None], 2))


@pytest.mark.parametrize("value", [2, 2**64, np.float32(0.5), np.int8(3), Fraction(1, 2), True])
def test_numbers_are_floats(value: Any) -> None:
    (found,) = check_numbers("layer", rate=value)
    assert type(found) is float
    assert found == value
    assert bool((torch.zeros(1) <= found).all())


def test_a_placement_is_what_pytorch_takes() -> None:
    assert placement("layer", None, None) == {"device": None, "dtype": None}
    made = torch.empty(1, **placement("layer", "meta", torch.bfloat16))
    assert (made.device.type, made.dtype) == ("meta", torch.bfloat16)


@pytest.mark.parametrize("device", ["x", "é\ud800", "\0", 2**64, True, 1.5, [], b"x", object()])
def test_what_is_no_device_is_one_line(device: Any) -> None:
    with pytest.raises(ValueError, match=r"^layer: expected a device such as [^\n]*, got [^\n]*$"):
        placement("layer", device, None)


@pytest.mark.parametrize(
    "dtype", ["float32", torch.int64, torch.complex64, 3, [], float, np.zeros(2)]
)
def test_what_is_no_dtype_of_weights_is_one_line(dtype: Any) -> None:
    with pytest.raises(ValueError, match=r"^layer: expected a dtype [^\n]*, got [^\n]*$"):
        placement("layer", None, dtype)
