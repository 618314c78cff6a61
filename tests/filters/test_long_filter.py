"""A filter made of any taps: skip, length policy, what is kept, and inside a Hyena operator."""

import copy
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from comparison import assert_all_close, assert_close, with_module_gradients
from torch import Tensor, nn

from hyena.filters import (
    DiagonalSSM,
    ExplicitTaps,
    FourierTaps,
    HyenaFilter,
    LongFilter,
    ModalTaps,
    RealModalTaps,
    TransferFunctionTaps,
)
from hyena.filters.long import MOST_FINITE, Taps
from hyena.mixers import HyenaOperator
from hyena.ops import naive
from hyena.ops.segments import Segments
from hyena.training import OptimizerConfig, parameter_groups

D, M = 4, 20

TAPS: dict[str, Callable[[int], nn.Module]] = {
    "explicit": lambda F: ExplicitTaps(D, 7, filters=F, dtype=torch.float64),
    "explicit, groups": lambda F: ExplicitTaps(
        D, 12, filters=F, groups=2, decay=True, dtype=torch.float64
    ),
    "poles": lambda F: ModalTaps(D, 3, filters=F, groups=2, dtype=torch.float64),
    "real modes": lambda F: RealModalTaps(D, 3, filters=F, dtype=torch.float64),
    "fourier": lambda F: FourierTaps(D, 5, M, filters=F, dtype=torch.float64),
    "s4d": lambda F: DiagonalSSM(D, filters=F, state=6, dtype=torch.float64),
    "transfer function": lambda F: TransferFunctionTaps(D, 4, filters=F, dtype=torch.float64),
}
each_kind = pytest.mark.parametrize("kind", TAPS)


def make(kind: str, filters: int = 1, policy: str = "error") -> LongFilter:
    return LongFilter(
        TAPS[kind](filters),
        D,
        M,
        filters=filters,
        length_policy=policy,  # type: ignore[arg-type]
        dtype=torch.float64,
    )


def operator(kind: str, order: int = 2, policy: str = "error") -> HyenaOperator:
    filter = make(kind, order - 1, policy)
    return HyenaOperator(D, M, order, filter=filter, dtype=torch.float64)


def draw(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@each_kind
def test_its_taps(kind: str) -> None:
    filter = make(kind, 2)
    taps: Taps = filter.taps  # type: ignore[assignment]
    assert torch.equal(filter(9), taps(9))
    assert filter(9).shape == (2, D, 9)
    assert filter.skip.shape == (2, D)


@each_kind
@pytest.mark.parametrize("order", [2, 3, 4])
def test_in_an_operator_by_definition(kind: str, order: int, generator: torch.Generator) -> None:
    op, u = operator(kind, order), draw(generator, 2, 13, D)

    def by_definition(u: Tensor) -> Tensor:
        z = op.in_proj(u).transpose(1, 2)
        *gates, v = naive.short_conv(z, op.short_conv.weight, op.short_conv.bias).split(D, dim=1)
        h = op.filter(13)
        for i, gate in enumerate(reversed(gates[1:])):
            v = naive.long_conv(v * gate, h[i], op.filter.skip[i])
        return op.out_proj((v * gates[0]).transpose(1, 2))

    expected = with_module_gradients(op, by_definition, u)
    assert_all_close(with_module_gradients(op, op, u), expected, 1e-10)


@each_kind
@pytest.mark.parametrize("order", [2, 3])
@torch.no_grad()
def test_prefill_and_steps_equal_forward(kind: str, order: int, generator: torch.Generator) -> None:
    op, u = operator(kind, order).eval(), draw(generator, 2, M, D)
    expected = op(u)
    for known in (1, 6, M):
        y, state = op.prefill(u[:, :known])
        outputs = [y]
        for t in range(known, M):
            y, state = op.step(u[:, t], state)
            outputs.append(y[:, None])
        assert_close(torch.cat(outputs, dim=1), expected, 1e-11)


@each_kind
def test_packed_and_padded(kind: str, generator: torch.Generator) -> None:
    op, u = operator(kind, 3), draw(generator, 1, M, D)
    pieces = u.split([5, 1, 9, 5], dim=1)
    expected = torch.cat([op(piece) for piece in pieces], dim=1)
    ids = torch.repeat_interleave(torch.arange(4), torch.tensor([5, 1, 9, 5]))[None]
    assert_close(op(u, document_ids=Segments.from_document_ids(ids)), expected, 1e-11)
    mask = torch.ones(1, M, dtype=torch.bool)
    mask[:, :6] = False
    assert_close(op(u, mask=mask)[:, 6:], op(u[:, 6:]), 1e-11)


@each_kind
def test_the_policy(kind: str, generator: torch.Generator) -> None:
    u = draw(generator, 1, 3 * M, D)
    strict, free = operator(kind), operator(kind, policy="extrapolate")
    for length in (M + 1, 3 * M):
        with pytest.raises(ValueError, match=f"^the input is {length} long but max_length is {M}"):
            strict(u[:, :length])
        with pytest.raises(ValueError, match=f"^the input is {length} long but max_length is {M}"):
            strict.filter.check_growth(length)
    y = free(u)
    assert_close(y[:, :M], free(u[:, :M]), 1e-11)
    with torch.no_grad():
        free.eval()
        y, state = free.prefill(u[:, : M - 1])
        for t in range(M - 1, 3 * M):
            y, state = free.step(u[:, t], state)
        assert_close(y, free(u)[:, -1], 1e-11)


def test_interpolation_is_refused() -> None:
    message = "LongFilter: length_policy='interpolate', but filters of this kind know \"error\" and"
    with pytest.raises(ValueError, match=f"^{message}"):
        make("explicit", policy="interpolate")


def test_a_filter_that_does_not_fit_the_operator() -> None:
    with pytest.raises(ValueError, match=r"expected \(channels, filters, max_length, bidirec"):
        HyenaOperator(D, M, 3, filter=make("explicit"))
    with pytest.raises(ValueError, match="length_policy belongs to the filter"):
        HyenaOperator(D, M, filter=make("explicit"), length_policy="error")


@each_kind
def test_spectra_are_kept_until_a_parameter_changes(kind: str, generator: torch.Generator) -> None:
    op, u = operator(kind, 3).eval(), draw(generator, 1, M, D)
    filter = op.filter
    assert filter.spectra(M) is None  # gradients are on
    with torch.no_grad():
        for_steps = filter.recurrence if filter.recurrent else lambda: filter.online(M)
        first, steps = filter.spectra(M), for_steps()
        assert filter.spectra(M) is first
        assert for_steps() is steps
        assert filter.spectra(9) is not first
        for parameter in filter.parameters():
            before, steps = op(u), for_steps()
            parameter.add_(0.1)
            after = op(u)
            assert not torch.equal(after, before)
            assert for_steps() is not steps
            assert_close(after, copy.deepcopy(op).train()(u), 1e-11)
        kept = filter.spectra(M)
        filter.train().eval()
        assert filter.spectra(M) is not kept
        assert filter.train().spectra(M) is None


@each_kind
def test_writing_through_data_is_seen(kind: str) -> None:
    filter, same = make(kind).eval(), make(kind).eval()
    with torch.no_grad():
        filter.spectra(M)
        filter.online(M)
        for parameter in filter.parameters():
            parameter.data.mul_(1.25)
        same.load_state_dict(filter.state_dict())
        (found,), (expected,) = filter.spectra(M) or (), same.spectra(M) or ()
        assert torch.equal(found.values, expected.values)
        assert torch.equal(filter.online(M).near(0, M), same.online(M).near(0, M))
        if filter.recurrent:
            for a, b in zip(filter.recurrence(), same.recurrence(), strict=True):
                assert torch.equal(a, b)


@pytest.mark.cpu
@each_kind
def test_under_autocast_the_filter_is_the_same(kind: str, generator: torch.Generator) -> None:
    op, u = operator(kind).float(), draw(generator, 2, 13, D).float()
    expected, h = op(u), op.filter(13)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(op.filter(13), h)
        y = op(u)
    assert_close(y, expected, 5e-2, dtype=torch.bfloat16)


@each_kind
def test_parameter_groups(kind: str) -> None:
    model = nn.ModuleDict({"mixer": operator(kind)})
    config = OptimizerConfig(lr=1e-3, filter_lr=5e-4, weight_decay=0.1)
    found = {
        name: (group["peak_lr"], group["weight_decay"])
        for group in parameter_groups(model, config)
        for name in group["names"]
    }
    taps = [name for name in found if name.startswith("mixer.filter.taps.")]
    assert len(taps) == len(list(model["mixer"].filter.taps.parameters())) > 0
    assert {found[name] for name in taps} == {(5e-4, 0.0)}
    assert found["mixer.filter.skip"] == (1e-3, 0.0)


class Twice(LongFilter):
    """Filters that their taps do not tell."""

    def forward(self, length: int) -> Tensor:
        return 2 * super().forward(length)


def test_which_filters_end() -> None:
    def ends(taps: nn.Module, kind: type[LongFilter] = LongFilter) -> int | None:
        return kind(taps, D, M).finite

    assert ends(ExplicitTaps(D, 7)) == 7
    assert ends(ExplicitTaps(D, MOST_FINITE)) == MOST_FINITE
    assert ends(ExplicitTaps(D, MOST_FINITE + 1)) is None
    assert ends(ExplicitTaps(D, 7), Twice) is None
    assert ends(DiagonalSSM(D, state=4)) is None
    hooked = ExplicitTaps(D, 7)
    hooked.register_forward_hook(lambda module, inputs, h: 2 * h)
    assert ends(hooked) is None
    filter = LongFilter(ExplicitTaps(D, 7), D, M)
    filter.taps = FourierTaps(D, 3, M)
    assert filter.finite is None


@pytest.mark.parametrize("taps", [7, 50])
def test_all_taps_of_filters_that_end(taps: int) -> None:
    filter = LongFilter(ExplicitTaps(D, taps, groups=2), D, M)
    all_taps = filter.taps(taps)
    assert torch.equal(filter.all_taps(), all_taps)  # more than max_length, too
    for channels in (slice(0, 1), slice(1, 3), slice(3, 4)):
        assert torch.equal(filter.all_taps(channels), all_taps[:, channels])
    found = filter.finite_filter()
    assert found.sizes == (1, D, taps)
    assert filter.eval().finite_filter() is filter.finite_filter()
    expected = all_taps.clone()
    expected[..., 0] += filter.skip
    assert torch.equal(found.taps[:, :, 0], expected.transpose(1, 2))


@each_kind
@pytest.mark.parametrize("order", [2, 3])
def test_without_a_skip(kind: str, order: int, generator: torch.Generator) -> None:
    taps = TAPS[kind](order - 1)
    sizes: dict[str, Any] = {"filters": order - 1, "dtype": torch.float64}
    filter = LongFilter(taps, D, M, skip=False, **sizes)
    zero = LongFilter(taps, D, M, **sizes)
    with torch.no_grad():
        zero.skip.zero_()
    assert filter.skip is None
    assert set(filter.state_dict()) == set(zero.state_dict()) - {"skip"}
    assert torch.equal(filter.direct, zero.direct)
    assert not filter.direct.requires_grad
    assert filter.flops(9).pointwise == zero.flops(9).pointwise - (order - 1) * D * 9
    one = HyenaOperator(D, M, order, filter=filter, dtype=torch.float64).eval()
    other = HyenaOperator(D, M, order, filter=zero, dtype=torch.float64).eval()
    other.load_state_dict(one.state_dict(), strict=False)
    u = draw(generator, 2, M, D)
    assert_close(one(u), other(u), 1e-13)
    with torch.no_grad():
        assert_close(one(u), other(u), 1e-13)  # from spectra
        _, state = one.prefill(u[:, :9])
        for t in range(9, M):
            last, state = one.step(u[:, t], state)
            assert_close(last, other(u[:, : t + 1])[:, -1], 1e-11)


def test_without_a_skip_on_any_device_and_in_any_dtype() -> None:
    filter = LongFilter(ExplicitTaps(D, 3), D, M, skip=False)
    assert filter.bfloat16().direct.dtype == torch.bfloat16
    assert filter.to("meta").direct.device.type == "meta"
    assert LongFilter(ExplicitTaps(D, 3, device="meta"), D, M, skip=False).kept_bytes(M) > 0


def test_meta_device() -> None:
    taps = DiagonalSSM(D, device="meta")
    filter = LongFilter(taps, D, M, device="meta")
    op = HyenaOperator(D, M, filter=filter, device="meta")
    assert op(torch.zeros(2, 9, D, device="meta")).shape == (2, 9, D)


FILTERS: list[tuple[Callable[..., nn.Module], dict[str, Any]]] = [
    (ExplicitTaps, {"channels": 4, "taps": 3, "filters": 1}),
    (ModalTaps, {"channels": 4, "modes": 3, "filters": 1}),
    (RealModalTaps, {"channels": 4, "modes": 3, "filters": 1}),
    (FourierTaps, {"channels": 4, "modes": 3, "max_length": 9, "filters": 1}),
    (TransferFunctionTaps, {"channels": 4, "degree": 3, "filters": 1}),
    (DiagonalSSM, {"channels": 4, "state": 4, "filters": 1}),
    (HyenaFilter, {"channels": 4, "max_length": 9, "filters": 1, "emb_dim": 5, "width": 4}),
    (lambda **sizes: LongFilter(ExplicitTaps(4, 3), **sizes), {"channels": 4, "max_length": 9}),
]


@pytest.mark.parametrize("size", [0, 1.5, "3", None, [3], 10**19, math.nan])
@pytest.mark.parametrize(("make", "sizes"), FILTERS)
def test_a_size_of_any_filter_that_is_none(
    make: Callable[..., nn.Module], sizes: dict[str, int], size: Any
) -> None:
    filter = make(**sizes)
    for name in sizes:
        with pytest.raises(ValueError, match=f": expected a whole number from 1 to .* as {name}"):
            make(**{**sizes, name: size})
    with pytest.raises((TypeError, ValueError), match=r": expected (an integer as )?length"):
        filter(size)


@pytest.mark.parametrize("value", ["x", None, [1.0], math.nan, math.inf, 10**400])
@pytest.mark.parametrize(
    ("make", "name"),
    [
        (partial(DiagonalSSM, 4), "dt_min"),
        (partial(DiagonalSSM, 4), "dt_max"),
        (partial(HyenaFilter, 4, 9), "shift"),
        (partial(HyenaFilter, 4, 9), "fast_decay"),
    ],
)
def test_a_setting_that_is_no_finite_number(
    make: Callable[..., nn.Module], name: str, value: Any
) -> None:
    with pytest.raises(ValueError, match=f": expected a finite number as {name}, got "):
        make(**{name: value})
