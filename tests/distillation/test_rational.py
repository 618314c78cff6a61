"""Modes as ratios of polynomials."""

import torch
from comparison import assert_close

from hyena.distillation import Modes
from hyena.distillation.modes import rational
from hyena.filters import TransferFunctionTaps


def test_the_transfer_function_has_the_taps_of_the_modes() -> None:
    rate = torch.tensor([[0.1, 0.2, 0.3], [0.05, 0.4, 0.6], [0.2, 0.3, 0.3]], dtype=torch.float64)
    frequency = torch.tensor([[0.3, 1.2, 2.6], [0.0, torch.pi, 1.0], [0.7, 1.9, 0.0]]).double()
    weight = torch.complex(torch.ones(3, 3), torch.full((3, 3), -0.5)).to(torch.complex128)
    weight[2, 1:] = 0  # modes that are not there
    modes, first = Modes(rate, frequency, weight), torch.tensor([0.3, -2.0, 0.0]).double()
    reflection, numerator = rational(modes, first)
    taps = TransferFunctionTaps(3, 6, dtype=torch.float64)
    with torch.no_grad():
        taps.reflection.copy_(reflection[None])
        taps.numerator.copy_(numerator[None])
    expected = modes.taps(60)
    expected[:, 0] = first
    assert_close(taps(60)[0], expected, 1e-9)
    decay, weight = taps.recurrence()
    x, h = torch.ones_like(decay), []
    for _ in range(60):
        h.append(2 * (weight * x).real.sum(-1))
        x = decay * x
    assert_close(torch.stack(h, dim=-1)[0], expected, 1e-9)
    assert not bool(reflection[2, 2:].any())  # a single pair is of degree 2
