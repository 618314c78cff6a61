"""Ratios of polynomials: their power series, and that it stays bounded."""

import copy
import re
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from comparison import assert_all_close, assert_close, with_module_gradients
from torch import Tensor

from hyena.filters import TransferFunctionTaps


def make(
    degree: int, filters: int = 1, *, dtype: torch.dtype = torch.float64
) -> TransferFunctionTaps:
    return TransferFunctionTaps(3, degree, filters=filters, dtype=dtype)


@torch.no_grad()
def set_roots(taps: TransferFunctionTaps, roots: Sequence[complex]) -> None:
    """The denominator of all channels: downwards from the coefficients, the recursion the other way
    round."""
    a, found = np.real(np.poly(np.asarray(roots))), []
    while len(a) > 1:
        k = a[-1]
        found.append(k)
        a = (a - k * a[::-1])[:-1] / (1 - k * k)
    taps.reflection.copy_(torch.tensor(found[::-1]).atanh())


def states_after(taps: TransferFunctionTaps, u: Tensor) -> Tensor:
    """Of all filters, (B, F, D, n/2)."""
    parts = range(taps.numerator.shape[0])
    return torch.stack([taps.state_after(u, part) for part in parts], dim=1)


def by_division(taps: TransferFunctionTaps, length: int) -> Tensor:
    """Long division, tap by tap: h_t = b_t − Σ_k a_k · h_{t−k}."""
    a, b, h = taps.denominator(), taps.numerator, []
    degree = b.shape[-1] - 1
    for t in range(length):
        value = b[..., t] if t <= degree else torch.zeros_like(b[..., 0])
        for k in range(1, min(t, degree) + 1):
            value = value - a[..., k] * h[t - k]
        h.append(value)
    return torch.stack(h, dim=-1)


@pytest.mark.parametrize("filters", [1, 2])
@pytest.mark.parametrize("degree", [1, 2, 5])
@pytest.mark.parametrize("length", [1, 2, 3, 8, 31])
def test_equals_long_division_with_every_gradient(length: int, degree: int, filters: int) -> None:
    taps = make(degree, filters)
    unused = torch.ones(1, dtype=torch.float64)
    if length == 1:  # the first tap is the numerator's alone
        assert_close(taps(1).detach(), taps.numerator[..., :1].detach(), 1e-14)
        return
    expected = with_module_gradients(taps, lambda u: u * by_division(taps, length), unused)
    got = with_module_gradients(taps, lambda u: u * taps(length), unused)
    assert got[0].shape == (filters, 3, length)
    assert_all_close(got, expected, 1e-10)


def test_degree_64_and_second_derivatives() -> None:
    taps = make(64)
    assert_close(taps(300), by_division(taps, 300), 1e-12)
    small = make(2)

    def of(reflection: Tensor, numerator: Tensor) -> Tensor:
        parameters = {"reflection": reflection, "numerator": numerator}
        return torch.func.functional_call(small, parameters, (7,))

    inputs = (small.reflection.detach().requires_grad_(), small.numerator.detach().requires_grad_())
    assert torch.autograd.gradgradcheck(of, inputs)


def test_a_shorter_input_sees_a_prefix() -> None:
    taps = make(5)
    whole = taps(200)
    for length in (1, 7, 100, 199):
        assert_close(taps(length), whole[..., :length], 1e-12)


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_every_root_lies_inside_the_unit_circle(scale: float) -> None:
    taps = make(6)
    with torch.no_grad():
        taps.reflection.normal_(generator=torch.Generator().manual_seed(0)).mul_(scale)
        taps.reflection.clamp_(-3, 3)
    for a in taps.denominator().detach().flatten(0, 1).numpy():
        assert a[0] == 1
        assert np.abs(np.roots(a)).max() < 1


def test_every_such_denominator_can_be_had() -> None:
    taps = make(3)
    set_roots(taps, [0.9, 0.5 + 0.6j, 0.5 - 0.6j])
    expected = torch.tensor(np.real(np.poly([0.9, 0.5 + 0.6j, 0.5 - 0.6j])))
    assert_close(taps.denominator()[0, 1], expected, 1e-12)


def test_the_energy_at_first() -> None:
    taps = TransferFunctionTaps(100, 64, dtype=torch.float64)
    with torch.no_grad():
        taps.numerator.zero_()[..., 0] = 1
    coefficients = taps.reflection.tanh()
    energy = (1 / (1 - coefficients.square())).prod(-1)
    assert_close(taps(20_000).square().sum(-1), energy, 1e-5)  # but for the slowest roots
    assert 1.5 < float(energy.detach().median()) < 4


def test_float32_at_great_length() -> None:
    taps = make(64, dtype=torch.float32)
    expected = copy.deepcopy(taps).double()
    assert_close(taps(131072), expected(131072), 1e-5, dtype=torch.float32)


def stepped(taps: TransferFunctionTaps, length: int) -> Tensor:
    """The taps by the recurrence, one at a time."""
    decay, weight = taps.recurrence()
    x, h = torch.ones_like(decay), []
    for _ in range(length):
        h.append(2 * (weight * x).real.sum(-1))
        x = decay * x
    return torch.stack(h, dim=-1)


@pytest.mark.parametrize("filters", [1, 2])
@pytest.mark.parametrize("degree", [1, 2, 5, 64])
def test_the_recurrence_gives_the_same_taps(degree: int, filters: int) -> None:
    taps = make(degree, filters)
    decay, weight = taps.recurrence()
    assert decay.shape == weight.shape
    assert decay.shape[:2] == (filters, 3)
    assert degree / 2 + 1 <= decay.shape[2] <= degree + 1
    assert float(decay.abs().max()) < 1
    assert_close(stepped(taps, 200), taps(200), 1e-10)
    narrow = make(degree, filters, dtype=torch.float32)
    narrow.load_state_dict(taps.state_dict())
    assert_close(stepped(narrow, 200), taps(200), 2e-5, dtype=torch.float32)


def test_the_state_after_a_sequence_is_that_of_the_recurrence(generator: torch.Generator) -> None:
    taps = make(5, 2)
    u = torch.randn(2, 3, 23, generator=generator, dtype=torch.float64)
    decay, _ = taps.recurrence()
    x = torch.zeros(2, *decay.shape, dtype=decay.dtype)
    for t in range(23):
        x = decay * x + u[:, None, :, t, None]
    assert_close(torch.view_as_real(states_after(taps, u)), torch.view_as_real(x), 1e-12)
    meta = TransferFunctionTaps(3, 4, device="meta")
    assert states_after(meta, torch.zeros(5, 3, 10, device="meta")).shape == (5, 1, 3, 5)


def test_the_recurrence_is_kept_until_a_parameter_changes() -> None:
    taps = make(5).eval().requires_grad_(False)
    decay, _ = taps.recurrence()
    assert taps.recurrence()[0] is decay
    taps.reflection.mul_(0.5)
    assert not torch.equal(taps.recurrence()[0], decay)
    assert_close(stepped(taps, 50), taps(50), 1e-10)


def test_polynomials_that_end_early() -> None:
    taps = make(6).requires_grad_(False)
    taps.reflection[:, 1, 2:] = 0  # degree 2 in one channel, in another none
    taps.numerator[:, 1, 3:] = 0
    taps.reflection[:, 2] = 0
    taps.numerator[:, 2, 1:] = 0
    assert_close(stepped(taps, 60), taps(60), 1e-10)


def test_roots_that_coincide_have_no_recurrence() -> None:
    taps = make(6).requires_grad_(False)
    taps.reflection[:, 1] = 0  # six taps and no feedback: all roots are zero
    with pytest.raises(ValueError, match=r"^TransferFunctionTaps: the roots of channel 1 nearly"):
        taps.recurrence()


ONE_NEAR_ZERO = [
    (5e-4, 1e-10, 1e-5),
    (1e-5, 1e-10, 5e-4),
    (-1e-7, 1e-10, 5e-4),
    (0.0, 3e-8, 5e-4),
]


@pytest.mark.parametrize(("pole", "bound", "bound_of_float32"), ONE_NEAR_ZERO)
def test_a_root_near_zero(pole: float, bound: float, bound_of_float32: float) -> None:
    generator = torch.Generator().manual_seed(0)
    for dtype, most in ((torch.float64, bound), (torch.float32, bound_of_float32)):
        taps = make(4, dtype=dtype).requires_grad_(False)
        set_roots(taps, [0.9, 0.5 + 0.6j, 0.5 - 0.6j, pole])
        taps.numerator.normal_(generator=generator)
        taps.reflection[:, 2] = 0.3  # a channel of other roots keeps its own
        assert_close(stepped(taps, 60), taps(60), most, dtype=dtype)


def test_the_error_that_is_refused_follows_the_dtype() -> None:
    """Half of the digits, which is what two equal roots may cost."""
    for equal, dtype, refused in (
        (2, torch.float32, ""),
        (3, torch.float32, "more than 1e-03; generate in float64, or distil the model"),
        (2, torch.float64, ""),
        (9, torch.float64, "more than 4e-08; distil the model"),
    ):
        taps = make(equal + 1, dtype=dtype).requires_grad_(False)
        set_roots(taps, [0.9] * equal + [0.4])
        taps.numerator.normal_(generator=torch.Generator().manual_seed(0))
        if refused:
            with pytest.raises(ValueError, match=f"of the filter, {re.escape(refused)}"):
                taps.recurrence()
        else:
            assert_close(
                stepped(taps, 60), taps(60), 5e-8 if dtype == torch.float64 else 1e-3, dtype=dtype
            )


def test_ill_conditioned_denominators() -> None:
    # Ten pairs of roots close to the unit circle, where 1/a is large and a's own values cancel.
    angles = np.linspace(0.2, 2.9, 10) + 0.03 * np.sin(np.arange(10))
    roots = np.concatenate([0.97 * np.exp(1j * angles), 0.97 * np.exp(-1j * angles)])
    taps = make(20).requires_grad_(False)
    set_roots(taps, roots)
    taps.numerator.copy_(torch.randn(1, 3, 21, generator=torch.Generator().manual_seed(0)))
    assert_close(taps(300), by_division(taps, 300), 1e-9)
    assert_close(stepped(taps, 300), taps(300), 1e-8)


def test_drawn_from_the_generator_alone() -> None:
    a, b = make(4), make(4)
    assert not torch.equal(a(9), b(9))
    for taps in (a, b):
        taps.draw(torch.Generator().manual_seed(3))
    assert torch.equal(a(9), b(9))


@pytest.mark.cpu
def test_in_float32_or_wider() -> None:
    taps = make(4, dtype=torch.float32)
    expected = taps(20)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(taps(20), expected)
    assert copy.deepcopy(taps).bfloat16()(20).dtype == torch.float32
    assert TransferFunctionTaps(3, 4, device="meta")(7).shape == (1, 3, 7)
