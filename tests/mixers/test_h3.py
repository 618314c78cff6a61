"""What is H3's own: its two state spaces, its heads, and linear attention as a special case."""

import math

import torch
from comparison import assert_close

from hyena.mixers import H3


def test_its_parameters() -> None:
    shapes = {name: tuple(p.shape) for name, p in H3(12, head_dim=3).named_parameters()}
    assert shapes == {
        "in_proj.weight": (36, 12),
        "in_proj.bias": (36,),
        "filter.skip": (4,),
        "filter.taps.log_step": (1, 4),
        "filter.taps.log_decay": (1, 4, 32),
        "filter.taps.frequency": (1, 4, 32),
        "filter.taps.weight": (1, 4, 32, 2),
        "shift.weight": (12, 64),
        "shift.skip": (12,),
        "out_proj.weight": (12, 12),
        "out_proj.bias": (12,),
    }


@torch.no_grad()
def test_without_shift_and_decay_it_is_linear_attention(generator: torch.Generator) -> None:
    # Fu et al. 2022, section 3: y_t = q_t Σ_{s ≤ t} k_sᵀ v_s if the one state space passes keys
    # on and the other adds up.
    mixer = H3(6, head_dim=3, state=2, dtype=torch.float64)
    mixer.shift.weight.zero_()
    mixer.shift.skip.fill_(1)
    mixer.filter.skip.zero_()
    taps = mixer.filter.taps
    taps.log_step.zero_()
    taps.log_decay.fill_(math.log(1e-12))  # e^{A} = 1 − 1e-12, so that (e^A − 1)/A = 1
    taps.frequency.zero_()
    taps.weight.copy_(torch.tensor([0.5, 0.0]))
    mixer.out_proj.weight.copy_(torch.eye(6))
    mixer.out_proj.bias.zero_()
    u = torch.randn(2, 15, 6, generator=generator, dtype=torch.float64)
    q, k, v = mixer.in_proj(u).view(2, 15, 3, 2, 3).unbind(2)  # (B, L, heads, E)
    scores = torch.einsum("bthe,bshe->bhts", q, k).tril()
    expected = torch.einsum("bhts,bshe->bthe", scores, v).flatten(2)
    assert_close(mixer(u), expected, 1e-9)


@torch.no_grad()
def test_the_shift_is_drawn_as_a_convolution_is() -> None:
    shift = H3(200).shift
    assert 0.124 < float(shift.weight.abs().max()) <= 0.125
    assert abs(float(shift.skip.std()) - 1) < 0.2
