"""Convolutions as exported programs have them, against the definition."""

from collections.abc import Callable

import pytest
import torch
from comparison import assert_close
from torch import Tensor

from hyena.export.convolution import ByProducts, LongConv, by_fft, direct, waves
from hyena.ops import naive

LENGTHS = 1, 2, 3, 7, 8, 31, 63, 64, 65, 96, 97, 127, 200, 257
WAYS: dict[str, Callable[[int], LongConv]] = {
    "direct": lambda longest: direct,
    "fft": lambda longest: by_fft,
    "products": ByProducts,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 2e-15), (torch.float32, 1e-6)], ids=["64", "32"]
)
def test_they_are_the_definition(
    way: str, dtype: torch.dtype, tolerance: float, generator: torch.Generator
) -> None:
    for length in LENGTHS:
        for longest in (length, 4096):
            u = torch.randn(2, 3, length, generator=generator, dtype=torch.float64)
            for taps in {1, (length + 1) // 2, length}:
                k = torch.randn(3, taps, generator=generator, dtype=torch.float64)
                got = WAYS[way](longest)(u.to(dtype), k.to(dtype))
                assert_close(got, naive.long_conv(u, k), tolerance, dtype=dtype)


def test_a_later_input_changes_no_earlier_output_but_by_rounding(
    generator: torch.Generator,
) -> None:
    u = torch.randn(1, 2, 97, generator=generator)
    k = torch.randn(2, 97, generator=generator)
    changed = torch.cat([u[..., :50], 10 * u[..., 50:]], dim=-1)

    def moved(conv: LongConv) -> float:
        return float((conv(changed, k) - conv(u, k))[..., :50].abs().max())

    assert moved(direct) == 0
    most = float(k.norm(dim=1).max() * changed.abs().max())
    for conv in (by_fft, ByProducts(97)):
        assert moved(conv) < 4 * torch.finfo(torch.float32).eps * most


def test_waves_keep_their_digits_at_many_turns() -> None:
    like: Tensor = torch.empty(0)
    cos, sin = waves(1000, 997, 1 << 20, like)
    angle = (
        2
        * torch.pi
        * torch.outer(
            torch.arange(1000, dtype=torch.float64), torch.arange(997, dtype=torch.float64)
        )
        / (1 << 20)
    )
    assert_close(cos, angle.cos(), 1e-7, dtype=torch.float32)
    assert_close(sin, angle.sin(), 1e-7, dtype=torch.float32)
