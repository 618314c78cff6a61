"""What is GSS's own: a state space on a quarter of the channels, gated at four times as many."""

import torch
from comparison import assert_close

from hyena.mixers import GSS


def test_its_parameters() -> None:
    shapes = {name: tuple(p.shape) for name, p in GSS(12).named_parameters()}
    assert shapes == {
        "in_proj.weight": (3, 12),
        "in_proj.bias": (3,),
        "gate_proj.weight": (48, 12),
        "gate_proj.bias": (48,),
        "norm.weight": (3,),
        "norm.bias": (3,),
        "filter.skip": (3,),
        "filter.taps.log_step": (1, 3),
        "filter.taps.log_decay": (1, 3, 32),
        "filter.taps.frequency": (1, 3, 32),
        "filter.taps.weight": (1, 3, 32, 2),
        "up_proj.weight": (48, 3),
        "up_proj.bias": (48,),
        "out_proj.weight": (12, 48),
        "out_proj.bias": (12,),
    }


@torch.no_grad()
def test_a_closed_gate_lets_nothing_through(generator: torch.Generator) -> None:
    mixer = GSS(12, dtype=torch.float64)
    mixer.gate_proj.weight.zero_()
    mixer.gate_proj.bias.zero_()
    u = torch.randn(2, 7, 12, generator=generator, dtype=torch.float64)
    assert_close(mixer(u), mixer.out_proj.bias.expand(2, 7, 12), 1e-12)
