"""Sums of exponentials by poles and residues: taps by definition, as recurrences, at great length,
and gradients wherever the poles are."""

import cmath
import copy
import math
from typing import Any

import pytest
import torch
from comparison import assert_all_close, assert_close, with_module_gradients
from torch import Tensor

from hyena.filters import DiagonalSSM, LongFilter, ModalTaps, RealModalTaps
from hyena.filters.exponentials import exponential_sum, sum_flops
from hyena.filters.flops import POWER, PRODUCT, FilterFlops
from hyena.ops import modal_conv, naive

D, S = 6, 4
Taps = ModalTaps | RealModalTaps


def complex_taps(groups: int | None = None, **options: Any) -> ModalTaps:
    return ModalTaps(D, S, groups=groups, **{"filters": 2, "dtype": torch.float64, **options})


def real_taps(**options: Any) -> RealModalTaps:
    return RealModalTaps(D, S, **{"filters": 2, "dtype": torch.float64, **options})


KINDS: dict[str, Any] = {
    "complex": complex_taps,
    "in groups": lambda **options: complex_taps(3, **options),
    "in one group": lambda **options: complex_taps(1, **options),
    "real": real_taps,
}
each_kind = pytest.mark.parametrize("kind", KINDS)


def by_definition(taps: Taps, length: int) -> Tensor:
    """Power by power, each the product of the one before; (F, D, length)."""
    if isinstance(taps, RealModalTaps):
        step, weight = taps.log_poles.exp(), taps.residues
        power = torch.ones_like(step)
    else:
        step, weight = (torch.view_as_complex(x) for x in (taps.poles, taps.residues))
        power = torch.ones_like(step)
    rows = []
    for _ in range(length):
        rows.append((weight * power).sum(-1).real)
        power = power * step
    h = torch.stack(rows, dim=-1)
    channels = taps.channels if isinstance(taps, ModalTaps) else h.shape[1]
    return h.repeat_interleave(channels // h.shape[1], dim=1)


def with_gradients(taps: Taps, run: Any) -> list[Tensor]:
    unused = torch.ones(1, dtype=torch.float64)  # for the helper, which wants an input
    return with_module_gradients(taps, lambda u: u * run(), unused)


@each_kind
@pytest.mark.parametrize("length", [2, 3, 4, 5, 16, 17, 50])
def test_equals_the_definition_with_every_gradient(kind: str, length: int) -> None:
    taps = KINDS[kind]()
    expected = with_gradients(taps, lambda: by_definition(taps, length))
    assert_all_close(with_gradients(taps, lambda: taps(length)), expected, 1e-12)


@each_kind
def test_one_tap_is_the_sum_of_the_residues(kind: str) -> None:
    taps = KINDS[kind]()
    assert_close(taps(1), by_definition(taps, 1), 1e-14)


def anywhere() -> ModalTaps:
    """Poles at zero, next to it, on both axes, of any sign, near the circle."""
    taps = ModalTaps(1, 9, dtype=torch.float64)
    poles = [0, 1e-90, -1e-12j, 0.5, -0.999, 1j * 0.999, -0.3 - 0.3j, cmath.rect(1, 3.1), 1e-3]
    with torch.no_grad():
        taps.poles.copy_(
            torch.view_as_real(torch.tensor(poles, dtype=torch.complex128))[None, None]
        )
    return taps


@pytest.mark.parametrize("length", [2, 3, 10, 40])
def test_poles_anywhere_inside_the_circle(length: int) -> None:
    taps = anywhere()
    expected = with_gradients(taps, lambda: by_definition(taps, length))
    got = with_gradients(taps, lambda: taps(length))
    assert_all_close(got, expected, 1e-12)
    of_poles, wanted = got[2][0, 0], expected[2][0, 0]
    for a, b in zip(of_poles, wanted, strict=True):  # each by itself, that of zero among them
        assert_close(a, b, 1e-11)


def test_a_pole_at_zero_is_trained_in_float32() -> None:
    taps = anywhere().float()
    exact = copy.deepcopy(taps).double()
    got = with_gradients(taps, lambda: taps(7))
    expected = with_gradients(exact, lambda: by_definition(exact, 7))
    assert_close(got[2][0, 0, 0].double(), expected[2][0, 0, 0], 1e-6)
    assert_all_close([x.double() for x in got], expected, 1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 3e-6)])
def test_what_the_kernel_sums_has_their_gradients(dtype: torch.dtype, tolerance: float) -> None:
    """That of a pole at zero among them, where there is no kernel as well."""
    taps = anywhere().to(dtype)
    exact = copy.deepcopy(taps).double()
    u = torch.randn(1, 1, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def by_modes() -> Tensor:
        log_decay, weight = taps.modes(slice(None))
        return modal_conv(u.to(dtype), log_decay[0], weight[0])[0]

    got = with_gradients(taps, by_modes)
    expected = with_gradients(exact, lambda: naive.long_conv(u, by_definition(exact, 40)[0]))
    for a, b in zip(got[2][0, 0], expected[2][0, 0], strict=True):
        assert_close(a.double(), b, tolerance)
    assert_all_close([x.double() for x in got], expected, tolerance)


def test_second_derivatives() -> None:
    taps = ModalTaps(1, 2, dtype=torch.float64)

    def h(poles: Tensor, residues: Tensor) -> Tensor:
        values = {"poles": poles, "residues": residues}
        return torch.func.functional_call(taps, values, (5,))

    inputs = tuple(x.detach().clone().requires_grad_() for x in (taps.poles, taps.residues))
    assert torch.autograd.gradcheck(h, inputs)
    assert torch.autograd.gradgradcheck(h, inputs)
    zero = torch.zeros(1, 1, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(h, (zero, inputs[1]), eps=1e-4, atol=1e-6)


@each_kind
def test_a_shorter_input_sees_a_prefix(kind: str) -> None:
    taps = KINDS[kind]()
    whole = taps(200)
    for length in (1, 7, 100, 199):
        assert_close(taps(length), whole[..., :length], 1e-13)


@each_kind
@pytest.mark.parametrize("channels", [slice(None), slice(0, 2), slice(1, 5)])
def test_modes_give_the_same_taps(kind: str, channels: slice) -> None:
    taps = KINDS[kind]()
    log_decay, weight = taps.modes(channels)
    assert (log_decay.dtype.to_real(), weight.dtype.to_real()) == (torch.float64, torch.float64)
    assert taps.modes_sizes == (S, 2 if weight.is_complex() else 1)
    t = torch.arange(50)
    h = (weight[..., None] * (log_decay[..., None] * t).exp()).real.sum(2)
    assert_close(h, by_definition(taps, 50)[:, channels], 1e-12)


@each_kind
def test_the_recurrence_gives_the_same_taps(kind: str) -> None:
    taps = KINDS[kind]()
    decay, weight = taps.recurrence()
    assert decay.shape == weight.shape == (2, D, S)
    assert decay.is_complex() == weight.is_complex() == (kind != "real")
    x, h = torch.ones_like(decay), []
    for _ in range(60):
        h.append(2 * (weight * x).real.sum(-1))
        x = decay * x
    assert_close(torch.stack(h, dim=-1), taps(60), 1e-12)


@each_kind
@pytest.mark.parametrize("length", [1, 2, 5, 16, 40])
def test_the_state_after_a_sequence_is_that_of_the_recurrence(
    kind: str, length: int, generator: torch.Generator
) -> None:
    taps = KINDS[kind]()
    u = torch.randn(3, D, length, generator=generator, dtype=torch.float64)
    decay, _ = taps.recurrence()
    for part in range(2):
        x = torch.zeros(3, D, S, dtype=decay.dtype)
        for t in range(length):
            x = decay[part] * x + u[..., t, None]
        got = taps.state_after(u, part)
        assert got.dtype == x.dtype
        assert_close(torch.view_as_real(got + 0j), torch.view_as_real(x + 0j), 1e-12)


@each_kind
def test_states_of_a_sequence_in_pieces(kind: str, generator: torch.Generator) -> None:
    filter = LongFilter(KINDS[kind](), D, 100, filters=2, dtype=torch.float64)
    u = torch.randn(3, D, 60, generator=generator, dtype=torch.float64)
    for part in range(2):
        whole, x = filter.state_after(u, part), None
        assert whole.shape == (3, D, S, 1 if kind == "real" else 2)
        for piece in u.split([1, 20, 2, 37], dim=-1):
            x = filter.state_after(piece, part, x)
        assert x is not None
        assert_close(x, whole, 1e-12)
        following = torch.cat([u, torch.zeros(3, D, 30, dtype=u.dtype)], dim=-1)
        h, y = filter(90)[part], torch.zeros(3, D, 30, dtype=u.dtype)
        for t in range(30):
            y[..., t] = (h[:, : 61 + t].flip(-1) * following[..., : 61 + t]).sum(-1)
        assert_close(filter.response(whole, part, 30), y, 1e-11)


@pytest.mark.parametrize("kind", ["complex", "real"])
def test_a_million_positions_in_float32(kind: str, generator: torch.Generator) -> None:
    # Modes that hardly decay, and turn half a million times.
    L = 1 << 20
    taps: Taps
    if kind == "real":
        taps = RealModalTaps(1, 4)
        with torch.no_grad():
            taps.log_poles.copy_(torch.tensor([-3e-7, -1e-6, -2e-5, -0.1]))
    else:
        taps = ModalTaps(1, 4)
        turns = [cmath.rect(math.exp(-3e-7), angle) for angle in (0.0, 3.1, 1.7, 2e-6)]
        with torch.no_grad():
            taps.poles.copy_(torch.view_as_real(torch.tensor(turns)))
    exact = copy.deepcopy(taps).double()
    with torch.no_grad():
        h, expected = taps(L), exact(L)
        decay, weight = exact.recurrence()
        for start in (0, L // 2, L - 1000):
            part = slice(start, start + 1000)
            assert_close(h[..., part], expected[..., part], 1e-5, dtype=torch.float32)
            t = torch.arange(start, start + 1000, dtype=torch.float64)
            powers = decay[0, 0, :, None] ** t
            true = 2 * (weight[0, 0, :, None] * powers).real.sum(0)
            assert_close(expected[0, 0, part], true, 1e-8)
        u = torch.randn(1, 1, L, generator=generator)
        got = taps.state_after(u, 0)
        wanted = exact.state_after(u.double(), 0)
        assert_close(torch.view_as_real(got + 0j), torch.view_as_real(wanted + 0j).float(), 1e-5)


def test_steps_use_the_poles_as_they_are() -> None:
    taps = ModalTaps(2, 3)
    with torch.no_grad():
        taps.poles[0, 0, 0] = torch.tensor([1.0, 0.0])
    decay, _ = taps.recurrence()
    assert torch.equal(torch.view_as_real(decay), taps.poles)


def test_nothing_long_is_kept_for_gradients() -> None:
    for taps in (ModalTaps(2, 16), RealModalTaps(2, 16)):
        kept: list[int] = []

        def pack(x: Tensor, kept: list[int] = kept) -> Tensor:
            kept.append(x.numel())
            return x

        L = 40_000
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            taps(L)
        assert max(kept) <= 2 * 2 * 16 * (math.isqrt(L) + 1)


def test_the_first_filters_are_those_of_a_state_space() -> None:
    taps = ModalTaps(500, 8, dtype=torch.float64)
    poles = torch.view_as_complex(taps.poles.detach())[0]
    step = -2 * poles[:, 0].abs().log()
    assert 1e-3 <= float(step.min()) < 1.2e-3
    assert 0.08 < float(step.max()) <= 0.1
    angle = math.pi * torch.arange(8, dtype=torch.float64) * step[:, None]
    assert_close(
        torch.view_as_real(poles),
        torch.view_as_real(torch.polar((-step / 2).exp()[:, None].expand_as(angle), angle)),
        1e-12,
    )
    same = DiagonalSSM(500, state=16, dtype=torch.float64)
    ours, theirs = (float(x(2000).detach().square().sum(-1).mean()) for x in (taps, same))
    assert 0.6 < ours / theirs < 1.6


def test_the_first_decays_and_their_gain() -> None:
    taps = RealModalTaps(2000, 16, dtype=torch.float64)
    rate = -taps.log_poles.detach()
    assert 1e-3 <= float(rate.min()) < 1.1e-3
    assert 0.09 < float(rate.max()) <= 0.1
    gain = (taps.residues.detach() / -torch.expm1(-rate)).sum(-1)
    assert abs(float(gain.var()) - 1) < 0.2


@pytest.mark.parametrize("make", [complex_taps, real_taps])
def test_drawn_from_the_generator_alone(make: Any) -> None:
    a, b = make(), make()
    assert not torch.equal(a(9), b(9))
    for taps in (a, b):
        taps.draw(torch.Generator().manual_seed(3))
    assert torch.equal(a(9), b(9))


@pytest.mark.cpu
@each_kind
def test_in_float32_or_wider(kind: str, generator: torch.Generator) -> None:
    taps = KINDS[kind](dtype=torch.float32)
    expected, u = taps(20), torch.randn(2, D, 20, generator=generator)
    x = taps.state_after(u, 1)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(taps(20), expected)
        assert torch.equal(taps.state_after(u, 1), x)
    narrow = copy.deepcopy(taps).bfloat16()
    assert narrow(20).dtype == torch.float32
    assert narrow.recurrence()[0].real.dtype == torch.float32
    assert narrow.state_after(u.bfloat16(), 0).real.dtype == torch.float32
    assert_close(narrow(20), copy.deepcopy(narrow).double()(20), 1e-5, dtype=torch.float32)


@each_kind
def test_meta_device(kind: str) -> None:
    taps = KINDS[kind](device="meta")
    assert taps(10).shape == (2, D, 10)
    assert taps.state_after(torch.zeros(5, D, 10, device="meta"), 0).shape == (5, D, S)
    assert taps.recurrence()[0].shape == (2, D, S)


def test_operations() -> None:
    """Of 10 positions: blocks of 4, of which there are 3."""
    powers = 4 * (POWER * (4 + 3) + PRODUCT * 3)
    assert complex_taps(3).flops(10) == FilterFlops(6 * 2 * 12 * 8, 0, 6 * powers)
    assert real_taps().flops(10) == FilterFlops(12 * 2 * 12 * 4, 0, 12 * 4 * (2 * 7 + 3))
    assert sum_flops(1, 1, 1) == FilterFlops(4, 0, 2 * POWER + PRODUCT)


@pytest.mark.parametrize("real", [True, False])
def test_a_sum_of_powers_in_parts_of_the_channels(
    real: bool, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    u = torch.randn(2, 5, 30, generator=generator, dtype=torch.float64)
    exponent = -torch.rand(5, 3, generator=generator, dtype=torch.float64)
    if not real:
        exponent = torch.complex(exponent, 7 * exponent)
    expected = exponential_sum(u, exponent)
    monkeypatch.setattr("hyena.filters.exponentials._PART", 100)
    got = exponential_sum(u, exponent)
    assert_close(torch.view_as_real(got + 0j), torch.view_as_real(expected + 0j), 1e-13)


@pytest.mark.parametrize("groups", [4, 12])
def test_groups_of_unequal_size_are_refused(groups: int) -> None:
    message = f"^ModalTaps: expected a divisor of the 6 channels as groups, got {groups}$"
    with pytest.raises(ValueError, match=message):
        ModalTaps(6, 2, groups=groups)
