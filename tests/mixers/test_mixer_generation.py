"""Operators beyond max_length and of changed weights; attention after autocast."""

import pytest
import torch
from comparison import assert_close
from mixer_cases import D, M, draw, generate, hyena

from hyena.mixers import CausalSelfAttention


def test_extrapolating_past_max_length(generator: torch.Generator) -> None:
    mixer = hyena(3, length_policy="extrapolate")(dtype=torch.float64).eval()
    u = draw(generator, 2, 3 * M, D)
    with torch.no_grad():
        for prompt in (M - 2, M + 3):
            assert_close(generate(mixer, u, prompt)[0], mixer(u), 1e-12)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("error", "the input is 25 long but max_length is 24; "),
        ("interpolate", "length 25 exceeds max_length 24: with length_policy "),
    ],
)
def test_other_policies_stop_at_max_length(
    policy: str, message: str, generator: torch.Generator
) -> None:
    mixer, u = (
        hyena(2, length_policy=policy)(dtype=torch.float64).eval(),
        draw(generator, 1, M + 1, D),
    )
    with torch.no_grad():
        assert_close(generate(mixer, u[:, :M], 3)[0], mixer(u[:, :M]), 1e-12)
        with pytest.raises(ValueError, match=f"^{message}"):
            generate(mixer, u, 3)


def test_steps_follow_a_change_of_the_weights(generator: torch.Generator) -> None:
    mixer, u = hyena(2)(dtype=torch.float64).eval(), draw(generator, 2, 8, D)
    with torch.no_grad():
        generate(mixer, u, 4)
        mixer.filter.layers[0].weight.mul_(1.1)
        assert_close(generate(mixer, u, 4)[0], mixer(u), 1e-12)


@pytest.mark.cpu
@torch.no_grad()
def test_attention_goes_on_without_autocast(generator: torch.Generator) -> None:
    mixer, u = CausalSelfAttention(D, head_dim=2).eval(), draw(generator, 2, 8, D).float()
    with torch.autocast("cpu", torch.bfloat16):
        _, state = mixer.prefill(u[:, :7])
    y, _ = mixer.step(u[:, 7], state)
    assert y.dtype == torch.float32
    assert_close(y, mixer(u)[:, 7], 2e-2)
