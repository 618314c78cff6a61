"""What is S4D's own: its layers, its sizes, and its state at great length."""

import torch
from comparison import assert_close

from hyena.mixers import S4D


def test_its_parameters() -> None:
    shapes = {name: tuple(p.shape) for name, p in S4D(12).named_parameters()}
    assert shapes == {
        "filter.skip": (12,),
        "filter.taps.log_step": (1, 12),
        "filter.taps.log_decay": (1, 12, 32),
        "filter.taps.frequency": (1, 12, 32),
        "filter.taps.weight": (1, 12, 32, 2),
        "out_proj.weight": (24, 12),
        "out_proj.bias": (24,),
    }


def test_the_settings_reach_the_state_space() -> None:
    taps = S4D(12, state=4, dt_min=0.01, dt_max=0.02, initial="inv").filter.taps
    assert (taps.state, taps.dt_min, taps.dt_max, taps.initial) == (4, 0.01, 0.02, "inv")


@torch.no_grad()
def test_the_state_forgets_nothing_at_great_length(generator: torch.Generator) -> None:
    # In float64, where 6,000 steps of the recurrence lose nothing either. The poles hardly decay.
    mixer = S4D(4, state=4, dt_min=1e-4, dt_max=1e-4, dtype=torch.float64)
    u = torch.randn(1, 6_000, 4, generator=generator, dtype=torch.float64)
    _, state = mixer.prefill(u)
    decay, _ = mixer.filter.taps.recurrence()
    x = torch.zeros(4, 2, dtype=torch.complex128)
    for now in u[0]:
        x = decay[0] * x + now[:, None]
    assert_close(state.x[0], torch.view_as_real(x), 1e-11)
