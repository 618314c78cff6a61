"""The filter against its formula, computed number by number."""

import copy
import math
from typing import Any

import pytest
import torch
from comparison import assert_close
from formula import filter_at
from torch.nn import functional as F

from hyena.filters import HyenaFilter

M = 12  # max_length
OPTIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "smallest": {"emb_dim": 3, "width": 1, "depth": 2},
    "wide and deep": {"emb_dim": 9, "width": 7, "depth": 6},
    "smooth": {"sine_freq": 1.0, "train_sine_freq": False},
    "no window": {"window": False},
    "shifted": {"shift": 0.05},
    "slower and faster": {"fast_decay": 0.1, "slow_decay": 4.0, "train_decay": True},
    "normalized": {"normalized": True},
    "order 3": {"filters": 2},
    "order 4, normalized": {"filters": 3, "normalized": True, "shift": 0.01},
    "table": {"train_encoding": True},
    "two-sided": {"bidirectional": True},
    "two-sided, order 3, table": {"bidirectional": True, "filters": 2, "train_encoding": True},
}


def make(**options: Any) -> HyenaFilter:
    options = {"emb_dim": 5, "width": 6, "depth": 4, **options}
    return HyenaFilter(3, M, dtype=torch.float64, **options)


@pytest.mark.parametrize("length", [1, 7, M])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_equals_the_formula(options: dict[str, Any], length: int) -> None:
    filter = make(**options)
    start = 1 - length if filter.bidirectional else 0
    expected = filter_at(filter, [float(n) for n in range(start, length)])
    assert_close(filter(length), expected, 1e-11)  # each layer multiplies rounding by its frequency


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_shorter_input_sees_a_part_of_the_same_filter(options: dict[str, Any]) -> None:
    filter = make(**options)
    whole = filter(M)
    for length in range(1, M):
        part = (
            whole[..., M - length : M - 1 + length] if filter.bidirectional else whole[..., :length]
        )
        assert_close(filter(length), part, 1e-11)


def test_the_decays_are_spread_over_channels_first() -> None:
    filter = make(filters=2)
    slow, fast = math.log(100) / 1.5, math.log(100) / 0.3
    spread = [slow + (fast - slow) * i / 5 for i in range(6)]
    expected = [[spread[0], spread[2], spread[4]], [spread[1], spread[3], spread[5]]]
    assert_close(filter.decay, torch.tensor(expected, dtype=torch.float64), 1e-14)


def test_every_channel_decays_at_its_own_rate() -> None:
    filter = make()
    open_ = make(window=False)
    open_.load_state_dict(filter.state_dict())
    window = filter(M) / open_(M)
    assert_close(window[0, :, 0], torch.ones(3, dtype=torch.float64), 1e-14)
    assert bool((window[..., 1:] < window[..., :-1]).all())
    assert bool((window[0, 1:, 1:] < window[0, :-1, 1:]).all())
    assert_close(window[0, :, -1], torch.exp(-filter.decay[0]), 1e-12)


def test_the_sign_of_a_decay_does_not_matter() -> None:
    filter = make(train_decay=True)
    expected = filter(M)
    with torch.no_grad():
        filter.decay.neg_()
    assert torch.equal(filter(M), expected)


def test_normalized_filters_sum_to_one_in_absolute_value() -> None:
    h = make(filters=2, normalized=True)(M)
    assert_close(h.abs().sum((0, 1)), torch.ones(M, dtype=torch.float64), 1e-14)


def test_what_is_trained() -> None:
    def trained(**options: Any) -> set[str]:
        return {n for n, p in make(**options).named_parameters() if p.requires_grad}

    network = {f"layers.{i}.{p}" for i in range(3) for p in ("weight", "bias")} | {
        "layers.3.weight"
    }
    assert trained() == network | {"sine_freq", "skip"}
    assert trained(train_sine_freq=False) == network | {"skip"}
    assert trained(train_decay=True) == network | {"sine_freq", "skip", "decay"}
    assert trained(train_encoding=True) == network | {"sine_freq", "skip", "encoding"}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_every_trained_parameter_gets_a_gradient(options: dict[str, Any]) -> None:
    filter = make(**options)
    filter(M).pow(2).sum().backward()
    for name, parameter in filter.named_parameters():
        if parameter.requires_grad and name != "skip":
            assert parameter.grad is not None, name
            assert bool(parameter.grad.any()), name


def test_the_skip_is_drawn_from_the_standard_normal() -> None:
    skip = HyenaFilter(10_000, M, filters=2, width=2, depth=2).skip.detach()
    assert skip.shape == (2, 10_000)
    assert abs(float(skip.mean())) < 0.05
    assert abs(float(skip.std()) - 1) < 0.05


@pytest.mark.parametrize("bidirectional", [False, True])
def test_an_untrained_table_equals_the_computed_encoding(bidirectional: bool) -> None:
    table = make(train_encoding=True, bidirectional=bidirectional)
    computed = make(bidirectional=bidirectional)
    missing = computed.load_state_dict(table.state_dict(), strict=False)
    assert sorted(missing.unexpected_keys) == ["encoding", "time"]
    for length in (1, 5, M):
        assert_close(table(length), computed(length), 1e-12)


def test_a_table_in_bfloat16_is_as_good_as_its_dtype() -> None:
    table = HyenaFilter(3, 2048, train_encoding=True, dtype=torch.bfloat16)
    exact = HyenaFilter(3, 2048, train_encoding=True, dtype=torch.float64)
    assert_close(table.encoding, exact.encoding, 4e-3, dtype=torch.bfloat16)
    assert_close(table.time, exact.time, 4e-3, dtype=torch.bfloat16)


def test_float32_is_accurate() -> None:
    filter = HyenaFilter(8, 4096)
    exact = copy.deepcopy(filter).double()
    assert_close(filter(4096), exact(4096), 1e-3, dtype=torch.float32)


@pytest.mark.parametrize("setting", [{"fast_decay": 1e-5}, {"sine_freq": 1e6}])
def test_settings_beyond_the_dtype_are_refused(setting: dict[str, float]) -> None:
    HyenaFilter(3, 16, **setting)
    with pytest.raises(ValueError, match=f"HyenaFilter: expected {next(iter(setting))} "):
        HyenaFilter(3, 16, dtype=torch.float16, **setting)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_narrow_filter_is_computed_in_float32(dtype: torch.dtype) -> None:
    narrow = HyenaFilter(8, 300, dtype=torch.float32).to(dtype)
    wide = copy.deepcopy(narrow).float()
    assert narrow(300).dtype == torch.float32
    assert_close(narrow(300), wide(300), 1e-6)


@pytest.mark.cpu
def test_autocast_does_not_touch_it() -> None:
    filter = HyenaFilter(8, 300)
    expected = filter(300)
    with torch.autocast("cpu", torch.bfloat16):
        h = filter(300)
        spectra = filter.eval().requires_grad_(False).spectra(300)
    assert torch.equal(h, expected)
    filter.clear_cache()
    assert spectra is not None
    assert torch.equal(spectra[0].values, filter.spectra(300)[0].values)


def test_the_default_dtype_is_followed() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        filter = HyenaFilter(3, M)
    finally:
        torch.set_default_dtype(torch.float32)
    assert filter(M).dtype == torch.float64
    assert_close(filter(M), filter_at(filter, [float(n) for n in range(M)]), 1e-12)


def test_meta_device() -> None:
    for options in ({}, {"train_encoding": True}, {"bidirectional": True, "filters": 2}):
        filter = HyenaFilter(3, M, device="meta", **options)
        sides = 2 * M - 1 if filter.bidirectional else M
        assert filter(M).shape == (filter.filters, 3, sides)


def test_one_frequency_vector_serves_all_layers() -> None:
    filter = make()
    x = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        filter.sine_freq.mul_(torch.arange(1, 7))
    for layer in filter.layers[:-1]:
        assert layer.out_features == filter.sine_freq.numel()
    assert F.linear(x.t(), filter.layers[0].weight).shape == (4, 6)
    assert_close(filter(M), filter_at(filter, [float(n) for n in range(M)]), 1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"emb_dim": 4}, r"expected an odd emb_dim ≥ 3 \(time, cosines, sines\), got 4"),
        ({"emb_dim": 1}, r"expected an odd emb_dim ≥ 3 .*, got 1"),
        ({"depth": 1}, r"expected depth ≥ 2 linear layers, got 1"),
        ({"width": 0}, r"expected a whole number from 1 to 1048576 as width, got 0"),
        ({"filters": 0}, r"expected a whole number from 1 to 1048576 as filters, got 0"),
        ({"channels": 0}, r"expected a whole number from 1 to 1048576 as channels, got 0"),
        ({"max_length": 0}, r"expected a whole number from 1 to 2147483648 as max_length, got 0"),
        (
            {"fast_decay": 2.0},
            r"expected 0 < fast_decay ≤ slow_decay, got fast_decay=2.0, slow_decay=1.5",
        ),
        ({"fast_decay": 0.0}, r"expected 0 < fast_decay ≤ slow_decay, got fast_decay=0.0"),
    ],
)
def test_settings_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^HyenaFilter: {message}"):
        HyenaFilter(**{"channels": 3, "max_length": M, **options})


def test_an_unknown_policy() -> None:
    with pytest.raises(
        ValueError, match=r"^length_policy='cut' is unknown; expected error, extrapolate, interp"
    ):
        HyenaFilter(3, M, length_policy="cut")  # type: ignore[arg-type]
