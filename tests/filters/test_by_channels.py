"""Filters made a range of channels at a time equal the ranges of all, their gradients too."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from comparison import assert_all_close, assert_close
from torch import Tensor, nn

from hyena.filters import (
    DiagonalSSM,
    ExplicitTaps,
    Filter,
    FourierTaps,
    HyenaFilter,
    LongFilter,
    ModalTaps,
    RealModalTaps,
    TransferFunctionTaps,
    encoding,
    parts,
)
from hyena.filters.encoding import KeptEncoding
from hyena.filters.network import sine_network

D, F, M = 6, 2, 640
RANGES = slice(0, 1), slice(1, 5), slice(5, 6)
EVERY_THIRD = slice(1, 6, 3)


def hyena(**options: Any) -> HyenaFilter:
    return HyenaFilter(D, M, filters=F, emb_dim=5, width=6, dtype=torch.float64, **options)


def long(taps: nn.Module) -> LongFilter:
    return LongFilter(taps, D, M, filters=F, length_policy="extrapolate", dtype=torch.float64)


class OnlyWhole(nn.Module):
    """Taps that know no ranges."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(F, D, M, dtype=torch.float64))

    def forward(self, length: int) -> Tensor:
        return 2 * self.weight[..., :length]


def adapted() -> HyenaFilter:
    filter = hyena()
    filter.layers[1] = nn.Sequential(filter.layers[1])
    return filter


def hooked() -> HyenaFilter:
    filter = hyena()
    filter.register_forward_hook(lambda module, inputs, h: 2 * h)
    return filter


def with_hooked_taps() -> LongFilter:
    filter = long(ExplicitTaps(D, 7, filters=F, dtype=torch.float64))
    filter.taps.register_forward_hook(lambda module, inputs, h: 2 * h)
    return filter


class Doubled(ExplicitTaps):
    """A forward that ``of_channels`` of its base does not know."""

    def forward(self, length: int) -> Tensor:
        return 2 * super().forward(length)


class DoubledByChannels(ExplicitTaps):
    """An ``of_channels`` that the base's forward calls."""

    def of_channels(self, length: int, channels: slice) -> Tensor:
        return 2 * super().of_channels(length, channels)


one = {"filters": F, "dtype": torch.float64}
FILTERS: dict[str, Callable[[], Filter]] = {
    "hyena": hyena,
    "trained window": lambda: hyena(train_decay=True, shift=0.1),
    "no window": lambda: hyena(window=False),
    "normalized": lambda: hyena(normalized=True),
    "normalized, no window": lambda: hyena(normalized=True, window=False),
    "bidirectional": lambda: hyena(bidirectional=True, normalized=True),
    "trained encoding": lambda: hyena(train_encoding=True),
    "adapted": adapted,
    "hooked": hooked,
    "explicit": lambda: long(ExplicitTaps(D, 7, **one)),
    "explicit, groups": lambda: long(ExplicitTaps(D, 7, groups=2, **one)),
    "explicit, window": lambda: long(ExplicitTaps(D, 7, groups=3, decay=True, **one)),
    "poles": lambda: long(ModalTaps(D, 4, **one)),
    "poles, groups": lambda: long(ModalTaps(D, 4, groups=2, **one)),
    "poles, one group": lambda: long(ModalTaps(D, 4, groups=1, **one)),
    "real modes": lambda: long(RealModalTaps(D, 4, **one)),
    "fourier": lambda: long(FourierTaps(D, 5, 20, **one)),
    "s4d": lambda: long(DiagonalSSM(D, state=6, **one)),
    "transfer function": lambda: long(TransferFunctionTaps(D, 4, **one)),
    "explicit, another forward": lambda: long(Doubled(D, 7, **one)),
    "explicit, other ranges": lambda: long(DoubledByChannels(D, 7, **one)),
    "only whole": lambda: long(OnlyWhole()),
    "hooked taps": with_hooked_taps,
}
each_filter = pytest.mark.parametrize("name", FILTERS)


@pytest.fixture(params=[1, 63, M])
def length(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(params=["short", "long"])
def small_parts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As at lengths of millions, where positions are taken by parts and no encoding is kept."""
    if request.param == "long":
        monkeypatch.setattr(parts, "PART_ELEMENTS", 1)
        monkeypatch.setattr(encoding, "KEPT_BYTES", 0)
        monkeypatch.setattr("hyena.filters.network.VALUES_BYTES", 0)


def gradients(filter: Filter, h: Tensor) -> list[Tensor]:
    """Of every parameter, for one fixed random gradient of the taps."""
    dh = torch.randn(h.shape, generator=torch.Generator().manual_seed(1), dtype=h.dtype)
    found = torch.autograd.grad(h, list(filter.parameters()), dh, allow_unused=True)
    return [x for x in found if x is not None and x.any()]


@each_filter
@pytest.mark.usefixtures("small_parts")
def test_ranges_are_those_of_all(name: str, length: int) -> None:
    filter = FILTERS[name]()
    whole = filter(length)
    assert whole.abs().sum() > 0
    ranges = filter.by_channels(length)
    joined = torch.cat([ranges.taps(channels) for channels in RANGES], dim=1)
    assert_close(joined, whole, 1e-12)
    for channels in (slice(1, 5), EVERY_THIRD):
        assert_close(ranges.taps(channels), whole[:, channels], 1e-12)
    assert_all_close(gradients(filter, joined), gradients(filter, whole), 1e-12)
    with torch.no_grad():
        ranges = filter.by_channels(length)
        for channels in (*RANGES, EVERY_THIRD):
            got = ranges.taps(channels)
            assert not got.requires_grad
            assert_close(got, whole[:, channels], 1e-12)


@each_filter
@pytest.mark.usefixtures("small_parts")
def test_gradients_range_by_range_through_what_they_share(name: str) -> None:
    filter = FILTERS[name]()
    sums: dict[Tensor, Tensor] = {}
    parameters = list(filter.parameters())
    whole = filter(M)
    dh = torch.randn(whole.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def add(outputs: Sequence[Tensor], inputs: list[Tensor], pulled: Sequence[Tensor]) -> None:
        for x, dx in zip(
            inputs, torch.autograd.grad(outputs, inputs, pulled, allow_unused=True), strict=True
        ):
            if dx is not None:
                sums[x] = sums[x] + dx if x in sums else dx

    ranges = filter.by_channels(M)
    leaves = [x.detach().requires_grad_() for x in ranges.shared]
    for channels in RANGES:
        add([ranges.taps(channels, leaves)], [*leaves, *parameters], [dh[:, channels]])
    if leaves:
        add(ranges.shared, parameters, [sums[x] for x in leaves])
    got = [sums[p] for p in parameters if p in sums]
    assert_all_close(got, gradients(filter, whole), 1e-12)


def test_the_positions_before_the_last_layer_are_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def counted(*args: Any) -> Tensor:
        calls.append(1)
        return sine_network(*args)

    monkeypatch.setattr("hyena.filters.hyena.sine_network", counted)
    ranges = hyena(normalized=True).by_channels(M)
    for channels in RANGES:
        ranges.taps(channels)
    assert len(calls) == 1


@pytest.mark.parametrize("bidirectional", [False, True])
def test_without_a_kept_encoding(bidirectional: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    filter = hyena(bidirectional=bidirectional)
    expected = filter(M)
    monkeypatch.setattr(parts, "PART_ELEMENTS", 1)
    monkeypatch.setattr(encoding, "KEPT_BYTES", 0)
    monkeypatch.setattr(KeptEncoding, "get", None)
    with torch.no_grad():
        assert_close(filter(M), expected, 1e-12)
    assert_all_close(gradients(filter, filter(M)), gradients(filter, expected), 1e-12)


def test_the_length_policy_is_asked() -> None:
    for filter in (hyena(), LongFilter(ExplicitTaps(D, 7, filters=F), D, M, filters=F)):
        with pytest.raises(ValueError, match="max_length is 640"):
            filter.by_channels(M + 1)


@pytest.mark.cpu
def test_wide_under_autocast_and_in_narrow_parameters() -> None:
    filter = HyenaFilter(D, M, filters=F)
    with torch.no_grad():
        expected = filter(M)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            ranges = filter.by_channels(M)
            assert torch.equal(ranges.taps(slice(0, D)), expected)
        assert filter.bfloat16().by_channels(M).taps(slice(1, 3)).dtype == torch.float32


def test_memory_of_a_range_only() -> None:
    """Not that of all taps, nor of a kept encoding."""
    filter = HyenaFilter(256, 1 << 16, filters=1)
    largest = 0

    class Sizes(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            found = function(*args, **(kwargs or {}))
            if isinstance(found, Tensor):
                largest = max(largest, found.untyped_storage().nbytes())
            return found

    with torch.no_grad(), Sizes():
        ranges = filter.by_channels(1 << 16)
        ranges.taps(slice(0, 8))
    assert largest <= 64 * (1 << 16) * 4 + 64  # the network's width times the positions


@pytest.mark.parametrize("kind", [Doubled, DoubledByChannels])
def test_a_forward_that_is_newer_than_the_ranges_is_the_one_that_counts(
    kind: type[ExplicitTaps],
) -> None:
    ranges = long(kind(D, 7, **one)).by_channels(M)
    assert bool(ranges.shared) is (kind is Doubled)  # made whole, and cut
