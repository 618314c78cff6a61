"""Diagonal state spaces: their taps by definition, as a recurrence, and at great length."""

import cmath
import copy
import math
import re
from typing import Any

import pytest
import torch
from comparison import assert_all_close, assert_close, with_module_gradients
from torch import Tensor

from hyena.filters import DiagonalSSM, exponentials


def make(channels: int = 3, *, dtype: torch.dtype = torch.float64, **options: Any) -> DiagonalSSM:
    return DiagonalSSM(channels, **{"state": 8, **options}, dtype=dtype)


def states_after(taps: DiagonalSSM, u: Tensor) -> Tensor:
    """Of all filters, (B, F, D, n/2)."""
    parts = range(taps.filters)
    return torch.stack([taps.state_after(u, part) for part in parts], dim=1)


def poles(taps: DiagonalSSM) -> tuple[Tensor, Tensor, Tensor]:
    """Step size (F, D, 1), poles A and output weights C (F, D, n/2)."""
    A = torch.complex(-taps.log_decay.exp(), taps.frequency)
    return taps.log_step.exp()[..., None], A, torch.view_as_complex(taps.weight)


def by_definition(taps: DiagonalSSM, length: int) -> Tensor:
    """The taps with every pole of a pair, one at a time."""
    step, A, C = poles(taps)
    h = torch.zeros(taps.filters, taps.channels, length, dtype=torch.complex128)
    for pole in range(A.shape[-1]):
        for a, c in ((A[..., pole], C[..., pole]), (A[..., pole].conj(), C[..., pole].conj())):
            held = ((step[..., 0] * a).exp() - 1) / a
            rows = [c * held * (t * step[..., 0] * a).exp() for t in range(length)]
            h = h + torch.stack(rows, dim=-1)
    assert float(h.imag.detach().abs().max()) < 1e-12
    return h.real


@pytest.mark.parametrize("initial", ["lin", "inv"])
@pytest.mark.parametrize("filters", [1, 2])
@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 16, 17, 50])
def test_equals_the_definition_with_every_gradient(length: int, filters: int, initial: str) -> None:
    taps = make(filters=filters, initial=initial)
    unused = torch.ones(1, dtype=torch.float64)  # for the helper, which wants an input
    expected = with_module_gradients(taps, lambda u: u * by_definition(taps, length), unused)
    got = with_module_gradients(taps, lambda u: u * taps(length), unused)
    assert_all_close(got, expected, 1e-11)


def test_a_constant_input_is_that_of_continuous_time() -> None:
    # held for each step, it is the same input, so that the sum of the taps up to t is exact
    taps = make()
    step, A, C = poles(taps)
    times = step[..., None] * torch.arange(1, 31)
    response = (C[..., None] * ((A[..., None] * times).exp() - 1) / A[..., None]).sum(-2)
    assert_close(taps(30).cumsum(-1), 2 * response.real, 1e-12)


def test_a_shorter_input_sees_a_prefix() -> None:
    taps = make()
    whole = taps(200)
    for length in (1, 7, 100, 199):
        assert_close(taps(length), whole[..., :length], 1e-13)


@pytest.mark.parametrize("filters", [1, 2])
def test_the_recurrence_gives_the_same_taps(filters: int) -> None:
    taps = make(filters=filters)
    decay, weight = taps.recurrence()
    assert decay.shape == weight.shape == (filters, 3, 4)
    x, h = torch.ones_like(decay), []
    for _ in range(60):
        h.append(2 * (weight * x).real.sum(-1))
        x = decay * x
    assert_close(torch.stack(h, dim=-1), taps(60), 1e-12)
    assert float(decay.detach().abs().max()) < 1


@pytest.mark.parametrize("filters", [1, 2])
@pytest.mark.parametrize("length", [1, 2, 5, 16, 40])
def test_the_state_after_a_sequence_is_that_of_the_recurrence(
    length: int, filters: int, generator: torch.Generator
) -> None:
    taps = make(filters=filters)
    u = torch.randn(2, 3, length, generator=generator, dtype=torch.float64)

    def one_by_one(u: Tensor) -> Tensor:
        decay, _ = taps.recurrence()
        x = torch.zeros(2, *decay.shape, dtype=decay.dtype)
        for t in range(length):
            x = decay * x + u[:, None, :, t, None]
        return torch.view_as_real(x)

    def at_once(u: Tensor) -> Tensor:
        return torch.view_as_real(states_after(taps, u))

    taps.weight.requires_grad_(False)  # which the state does not depend on
    if length == 1:  # nor on anything but the input
        assert_close(at_once(u)[..., 0].detach(), one_by_one(u)[..., 0].detach(), 1e-13)
        return
    expected = with_module_gradients(taps, one_by_one, u)
    assert_all_close(with_module_gradients(taps, at_once, u), expected, 1e-12)


@pytest.mark.parametrize("initial", ["lin", "inv"])
def test_float32_at_great_length(initial: str) -> None:
    taps = make(4, state=64, initial=initial, dtype=torch.float32)
    exact = copy.deepcopy(taps).double()
    h, expected = taps(131072), exact(131072)
    assert_close(h, expected, 2e-5, dtype=torch.float32)
    for start, stop in ((0, 10), (100, 200), (1000, 1100)):
        part = slice(start, stop)
        assert_close(h[..., part], expected[..., part], 3e-5, dtype=torch.float32)


def test_a_million_positions_in_float32(generator: torch.Generator) -> None:
    # Modes that hardly decay, and turn half a million times: steps of 1, as distilled filters have.
    taps = make(2, state=4, dtype=torch.float32)
    with torch.no_grad():
        taps.log_step.zero_()
        taps.log_decay.fill_(math.log(3e-7))
        taps.frequency.copy_(torch.tensor([[0.0, 3.1], [1.7, 2e-6]]))
    exact = copy.deepcopy(taps).double()
    with torch.no_grad():
        h, expected = taps(1 << 20), exact(1 << 20)
        for start in (0, 1 << 19, (1 << 20) - 1000):
            part = slice(start, start + 1000)
            assert_close(h[..., part], expected[..., part], 1e-5, dtype=torch.float32)
        u = torch.randn(1, 2, 1 << 20, generator=generator)
        got = torch.view_as_real(states_after(taps, u))
        wanted = torch.view_as_real(states_after(exact, u.double()))
        assert_close(got, wanted, 1e-5, dtype=torch.float32)
        # A step's decay is a float32, of which a million make an error of a few percent, no growth.
        decay, _ = taps.recurrence()
        after = decay.to(torch.complex128) ** (1 << 20)
        assert float(decay.to(torch.complex128).abs().max()) < 1
        true = exact.recurrence()[0] ** (1 << 20)
        assert float((after.abs() - true.abs()).abs().max()) < 0.1


@pytest.mark.parametrize("part", [1, 100, 10_000])
def test_the_state_in_parts_of_the_channels(
    part: int, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    taps = make(5, filters=2)
    u = torch.randn(3, 5, 30, generator=generator, dtype=torch.float64)
    expected = states_after(taps, u)
    largest: list[int] = []
    whole = exponentials._exponential_sum

    def counted(u: Tensor, exponent: Tensor) -> Tensor:
        largest.append(u.numel())
        return whole(u, exponent)

    monkeypatch.setattr(exponentials, "_PART", part)
    monkeypatch.setattr(exponentials, "_exponential_sum", counted)
    assert_close(torch.view_as_real(states_after(taps, u)), torch.view_as_real(expected), 1e-13)
    assert max(largest) <= max(part, 3 * 30)
    assert sum(largest) == 2 * u.numel()


def test_nothing_long_is_kept_for_gradients() -> None:
    kept: list[int] = []

    def pack(x: Tensor) -> Tensor:
        kept.append(x.numel())
        return x

    taps, L = make(2, state=64, dtype=torch.float32), 40_000
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        taps(L)
    assert max(kept) <= 2 * 64 * (math.isqrt(L) + 1)


def test_the_initial_poles() -> None:
    lin = make(2, state=6)
    torch.testing.assert_close(
        torch.complex(-lin.log_decay.exp(), lin.frequency)[0, 1],
        torch.tensor([complex(-0.5, math.pi * i) for i in range(3)], dtype=torch.complex128),
    )
    inv = make(2, state=6, initial="inv")
    expected = [6 / math.pi * (6 / (2 * i + 1) - 1) for i in range(3)]
    torch.testing.assert_close(
        inv.frequency[0, 1], torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=0
    )
    assert cmath.isclose(expected[0], 30 / math.pi)


def test_steps_are_even_on_a_logarithmic_scale_and_weights_normal() -> None:
    taps = make(4000, state=2, dt_min=1e-4, dt_max=1e-2)
    decades = taps.log_step.detach() / math.log(10)
    assert -4 <= float(decades.min()) < -3.99
    assert -2.01 < float(decades.max()) <= -2
    assert abs(float((decades < -3).double().mean()) - 0.5) < 4 * 0.5 / 4000**0.5
    assert abs(float(taps.weight.detach().var()) - 0.5) < 0.03


def test_drawn_from_the_generator_alone() -> None:
    a, b = make(), make()
    assert not torch.equal(a(9), b(9))
    for taps in (a, b):
        taps.draw(torch.Generator().manual_seed(3))
    assert torch.equal(a(9), b(9))


@pytest.mark.cpu
def test_in_float32_or_wider(generator: torch.Generator) -> None:
    taps = make(dtype=torch.float32)
    expected, u = taps(20), torch.randn(2, 3, 20, generator=generator)
    x = states_after(taps, u)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(taps(20), expected)
        assert torch.equal(states_after(taps, u), x)
    narrow = copy.deepcopy(taps).bfloat16()
    assert narrow(20).dtype == torch.float32
    assert narrow.recurrence()[0].dtype == torch.complex64
    assert states_after(narrow, u.bfloat16()).dtype == torch.complex64
    assert_close(narrow(20), copy.deepcopy(narrow).double()(20), 1e-5, dtype=torch.float32)


def test_meta_device() -> None:
    taps = DiagonalSSM(3, filters=2, device="meta")
    assert taps(10).shape == (2, 3, 10)
    assert states_after(taps, torch.zeros(5, 3, 10, device="meta")).shape == (5, 2, 3, 32)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"state": 7}, "expected an even state ≥ 2, since poles come in pairs, got 7"),
        ({"dt_min": 0.0}, "expected 0 < dt_min ≤ dt_max, got dt_min=0.0, dt_max=0.1"),
        ({"dt_min": 0.2}, "expected 0 < dt_min ≤ dt_max, got dt_min=0.2, dt_max=0.1"),
        ({"initial": "legs"}, 'expected initial "lin" or "inv", got \'legs\''),
    ],
)
def test_settings_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(f"DiagonalSSM: {message}") + "$"):
        DiagonalSSM(**{"channels": 3, **options})
