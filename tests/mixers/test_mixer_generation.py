"""Hyena operators of all sorts generate; what every mixer promises is in test_contract.py."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from comparison import assert_close
from states import numbers_held
from torch import Tensor

from hyena.filters import DiagonalSSM, LongFilter
from hyena.mixers import CausalSelfAttention, HyenaOperator

D, M = 4, 16
Make = Callable[[], Any]


def hyena(order: int, **options: Any) -> Make:
    return lambda: HyenaOperator(D, M, order, dtype=torch.float64, **options)


def recurrent(order: int) -> HyenaOperator:
    taps = DiagonalSSM(D, filters=order - 1, state=6, dtype=torch.float64)
    filter = LongFilter(taps, D, M, filters=order - 1, dtype=torch.float64)
    return HyenaOperator(D, M, order, filter=filter, dtype=torch.float64)


MIXERS: dict[str, Make] = {
    **{f"hyena {n}, short {k}": hyena(n, short_width=k) for n in (2, 3, 4) for k in range(1, 6)},
    "hyena 3, recurrences": lambda: recurrent(3),
}
each_mixer = pytest.mark.parametrize("make", MIXERS.values(), ids=MIXERS)


def draw(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def generate(
    mixer: Any,
    u: Tensor,
    prompt: int,
    mask: Tensor | None = None,
    future: int | None = None,
    keep_inputs: bool = False,
) -> tuple[Tensor, Any]:
    """The outputs of a prefill of ``prompt`` tokens and of steps for the others, (B, L, D)."""
    y, state = mixer.prefill(
        u[:, :prompt],
        mask=None if mask is None else mask[:, :prompt],
        future=future,
        keep_inputs=keep_inputs,
    )
    outputs = [y]
    for t in range(prompt, u.shape[1]):
        y, state = mixer.step(u[:, t], state)
        assert y.shape == (u.shape[0], D)
        outputs.append(y[:, None])
    return torch.cat(outputs, dim=1), state


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("prompt", [1, 2, 9, M])
@each_mixer
def test_prefill_and_steps_equal_forward(
    make: Make, prompt: int, training: bool, generator: torch.Generator
) -> None:
    mixer, u = make().train(training), draw(generator, 2, M, D)
    with torch.no_grad():
        assert_close(generate(mixer, u, prompt)[0], mixer(u), 1e-12)


@each_mixer
@pytest.mark.parametrize("prompt", [1, 5, 9])
def test_planned_for_the_tokens_to_come(
    make: Make, prompt: int, generator: torch.Generator
) -> None:
    mixer, u = make().eval(), draw(generator, 2, M, D)
    with torch.no_grad():
        y, _ = generate(mixer, u, prompt, future=M - prompt)
        assert_close(y, mixer(u), 1e-12)
        kept, _ = generate(mixer, u, prompt, future=2, keep_inputs=True)
        assert_close(kept, mixer(u), 1e-12)


@pytest.mark.parametrize("prompt", [1, 2, 7])
@each_mixer
def test_the_size_of_the_state(make: Make, prompt: int, generator: torch.Generator) -> None:
    mixer, u = make().eval(), draw(generator, 3, 9, D)
    with torch.no_grad():
        for future in (None, 0, 1, 5):
            _, state = mixer.prefill(u[:, :prompt], future=future)
            assert numbers_held(state) == 3 * mixer.state_size(prompt, future)


def test_extrapolating_past_max_length(generator: torch.Generator) -> None:
    mixer = hyena(3, length_policy="extrapolate")().eval()
    u = draw(generator, 2, 3 * M, D)
    with torch.no_grad():
        for prompt in (M - 2, M + 3):
            assert_close(generate(mixer, u, prompt)[0], mixer(u), 1e-12)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("error", "the input is 17 long but max_length is 16; "),
        ("interpolate", "length 17 exceeds max_length 16: with length_policy "),
    ],
)
def test_other_policies_stop_at_max_length(
    policy: str, message: str, generator: torch.Generator
) -> None:
    mixer, u = hyena(2, length_policy=policy)().eval(), draw(generator, 1, M + 1, D)
    with torch.no_grad():
        assert_close(generate(mixer, u[:, :M], 3)[0], mixer(u[:, :M]), 1e-12)
        with pytest.raises(ValueError, match=f"^{message}"):
            generate(mixer, u, 3)


def test_steps_follow_a_change_of_the_weights(generator: torch.Generator) -> None:
    mixer, u = hyena(2)().eval(), draw(generator, 2, 8, D)
    with torch.no_grad():
        generate(mixer, u, 4)
        mixer.filter.layers[0].weight.mul_(1.1)
        assert_close(generate(mixer, u, 4)[0], mixer(u), 1e-12)


@torch.no_grad()
def test_attention_goes_on_without_autocast(generator: torch.Generator) -> None:
    mixer, u = CausalSelfAttention(D, head_dim=2).eval(), draw(generator, 2, 8, D).float()
    with torch.autocast("cpu", torch.bfloat16):
        _, state = mixer.prefill(u[:, :7])
    y, _ = mixer.step(u[:, 7], state)
    assert y.dtype == torch.float32
    assert_close(y, mixer(u)[:, 7], 2e-2)
