"""Sizes and lengths that no filter can have, and the line that says so."""

import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hyena.filters import (
    DiagonalSSM,
    ExplicitTaps,
    FourierTaps,
    HyenaFilter,
    LongFilter,
    TransferFunctionTaps,
)

FILTERS: list[tuple[type[nn.Module], dict[str, Any]]] = [
    (ExplicitTaps, {"channels": 3, "taps": 5, "filters": 1}),
    (FourierTaps, {"channels": 3, "modes": 5, "max_length": 20, "filters": 1}),
    (TransferFunctionTaps, {"channels": 3, "degree": 4, "filters": 1}),
    (DiagonalSSM, {"channels": 3, "state": 4, "filters": 1}),
    (LongFilter, {"taps": ExplicitTaps(3, 5), "channels": 3, "max_length": 20, "filters": 1}),
    (HyenaFilter, {"channels": 3, "max_length": 20, "filters": 1, "width": 4, "emb_dim": 3}),
]
each_filter = pytest.mark.parametrize(("kind", "sizes"), FILTERS, ids=lambda x: str(x)[:24])


@each_filter
def test_sizes_that_cannot_be(kind: type[nn.Module], sizes: dict[str, Any]) -> None:
    for name, size in sizes.items():
        most = 2**31 if name == "max_length" else 2**20
        for wrong in (0, -1, 2**40, 1.5) if isinstance(size, int) else ():
            message = (
                f"{kind.__name__}: expected a whole number from 1 to {most} as {name}, got {wrong}"
            )
            with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
                kind(**{**sizes, name: wrong}, device="meta")


@each_filter
def test_lengths_that_cannot_be(kind: type[nn.Module], sizes: dict[str, Any]) -> None:
    filter = kind(**sizes)
    for length in (0, -1, 2**49):
        message = f"{kind.__name__}: expected length from 1 to 2^48, got {length}"
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            filter(length)
    with pytest.raises(
        TypeError, match=f"^{kind.__name__}: expected an integer as length, got str"
    ):
        filter("7")


def test_more_modes_than_the_period_has() -> None:
    message = "FourierTaps: max_length 9 has 5 modes, but 6 were asked for; lower modes"
    with pytest.raises(ValueError, match=f"^{message}$"):
        FourierTaps(3, 6, 9)


@each_filter
def test_sizes_may_be_of_numpy(kind: type[nn.Module], sizes: dict[str, Any]) -> None:
    small = {k: np.int8(v) if isinstance(v, int) else v for k, v in sizes.items()}
    found, expected = kind(**small), kind(**sizes)
    for name in sizes.keys() - {"taps"}:
        assert type(getattr(found, name, 0)) in (int, type(getattr(expected, name, 0)))
    shapes = [tuple(parameter.shape) for parameter in expected.parameters()]
    assert [tuple(parameter.shape) for parameter in found.parameters()] == shapes
    assert found(9).shape == expected(9).shape


@each_filter
def test_devices_and_dtypes_that_cannot_be(kind: type[nn.Module], sizes: dict[str, Any]) -> None:
    for wrong, expected in (
        ({"device": "é\ud800"}, "a device such as"),
        ({"device": 2**64}, "a device such as"),
        ({"dtype": torch.int64}, "a dtype"),
        ({"dtype": "float32"}, "a dtype"),
    ):
        with pytest.raises(ValueError, match=f"^{kind.__name__}: expected {expected}"):
            kind(**sizes, **wrong)


def test_a_shift_beyond_64_bits_is_its_float() -> None:
    assert bool(HyenaFilter(3, 20, shift=2**64)(9).isfinite().all())
