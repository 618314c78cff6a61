"""The truth that a timed convolution is compared with."""

import pytest
import torch
from comparison import assert_close, with_gradients
from torch import Tensor

from hyena.bench.convolution import truth
from hyena.ops import naive


def gated_conv(z: Tensor, k: Tensor, skip: Tensor, *short: Tensor) -> Tensor:
    return naive.gated_conv(z, k, skip, short=(short[0], short[1]) if short else None)


@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize("by_definition", [True, False])
def test_the_gated_convolution_and_its_gradients(
    by_definition: bool, short: bool, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not by_definition:
        monkeypatch.setattr(truth, "NAIVE", 0)
    shapes = {"z": (2, 15, 13), "k": (5, 13), "skip": (5,), "taps": (15, 3), "bias": (15,)}
    names = list(shapes)[: None if short else 3]
    given = [torch.randn(shapes[name], generator=generator) for name in names]
    expected = with_gradients(gated_conv, *(x.double() for x in given))
    dy = torch.randn(2, 5, 13, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    got = truth.gated_conv(*given, dy=dy)
    assert list(got) == ["y", *names]
    for tensor, right in zip(got.values(), expected, strict=True):
        assert_close(tensor, right, 1e-12)
    assert list(truth.gated_conv(*given)) == ["y"]


def test_channels_of_z_are_those_of_each_of_its_three_parts() -> None:
    z = torch.arange(12.0).view(1, 12, 1)
    some = truth.of_channels(z, torch.tensor([0, 3]))
    assert some.flatten().tolist() == [0, 3, 4, 7, 8, 11]


def test_of_large_tensors_some_channels_are_compared() -> None:
    assert truth.compared_channels(5, 100).tolist() == [0, 1, 2, 3, 4]
    assert truth.compared_channels(64, truth.ELEMENTS // 3).tolist() == [0, 32, 63]
    assert truth.compared_channels(64, 2 * truth.ELEMENTS).tolist() == [0]
