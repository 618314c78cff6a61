"""Prefill and steps equal the forward pass over the whole, for every causal mixer."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from comparison import assert_close
from torch import Tensor

from hyena.mixers import RWKV, AFTConv, CausalSelfAttention, HyenaOperator, LinearAttention

D, M = 4, 16
Make = Callable[[], Any]


def hyena(order: int, **options: Any) -> Make:
    return lambda: HyenaOperator(D, M, order, dtype=torch.float64, **options)


def aft_conv(taps: int) -> AFTConv:
    mixer = AFTConv(D, taps=taps, dtype=torch.float64)
    with torch.no_grad():  # which begin at zero
        mixer.gain.normal_()
        mixer.offset.normal_()
    return mixer


MIXERS: dict[str, Make] = {
    **{f"hyena {n}, short {k}": hyena(n, short_width=k) for n in (2, 3, 4) for k in range(1, 6)},
    "attention": lambda: CausalSelfAttention(D, head_dim=2, dtype=torch.float64),
    "linear attention": lambda: LinearAttention(D, head_dim=2, dtype=torch.float64),
    "RWKV": lambda: RWKV(D, dtype=torch.float64),
    "AFT-conv": lambda: aft_conv(4),
    "AFT-conv, long window": lambda: aft_conv(32),
}
each_mixer = pytest.mark.parametrize("make", MIXERS.values(), ids=MIXERS)
FEW = {name: MIXERS[name] for name in ("hyena 2, short 3", "hyena 3, short 4", "attention")}
few_mixers = pytest.mark.parametrize("make", FEW.values(), ids=FEW)


def draw(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def tensors(state: Any) -> list[Tensor]:
    """All tensors of a state."""
    if state is None:
        return []
    return [state] if isinstance(state, Tensor) else [x for part in state for x in tensors(part)]


def generate(mixer: Any, u: Tensor, prompt: int, mask: Tensor | None = None) -> tuple[Tensor, Any]:
    """The outputs of a prefill of ``prompt`` tokens and of steps for the others, (B, L, D)."""
    y, state = mixer.prefill(u[:, :prompt], mask=None if mask is None else mask[:, :prompt])
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


@pytest.mark.parametrize("prompt", [5, 8])
@each_mixer
def test_with_padding_on_the_left(make: Make, prompt: int, generator: torch.Generator) -> None:
    mixer, u = make().eval(), draw(generator, 3, M, D)
    mask = torch.ones(3, M, dtype=torch.bool)
    for row, padding in enumerate((4, 0, 3)):
        mask[row, :padding] = False
        u[row, :padding] = float("nan")
    with torch.no_grad():
        y, _ = generate(mixer, u, prompt, mask)
        for row, padding in enumerate((4, 0, 3)):
            assert_close(y[row, padding:], mixer(u[row : row + 1, padding:])[0], 1e-12)


@few_mixers
def test_gradients_flow_through_the_state(make: Make, generator: torch.Generator) -> None:
    mixer, u = make(), draw(generator, 2, 7, D).requires_grad_()
    y, _ = generate(mixer, u, 3)
    dy = draw(generator, *y.shape)
    [got] = torch.autograd.grad(y, u, dy)
    [expected] = torch.autograd.grad(mixer(u), u, dy)
    assert_close(got, expected, 1e-12)


@few_mixers
def test_the_state_is_a_value(make: Make, generator: torch.Generator) -> None:
    mixer, u = make().eval(), draw(generator, 2, 9, D)
    with torch.no_grad():
        _, state = mixer.prefill(u[:, :6])
        before = [x.clone() for x in tensors(state)]
        first, after = mixer.step(u[:, 6], state)
        mixer.step(u[:, 7], after)
        again, _ = mixer.step(u[:, 6], state)
        other, _ = mixer.step(u[:, 8], state)
        fork = mixer(torch.cat([u[:, :6], u[:, 8:]], dim=1))[:, -1]
    assert torch.equal(first, again)
    assert all(torch.equal(a, b) for a, b in zip(before, tensors(state), strict=True))
    assert_close(other, fork, 1e-12)


@pytest.mark.parametrize("prompt", [1, 2, 7])
@each_mixer
def test_the_size_of_the_state(make: Make, prompt: int, generator: torch.Generator) -> None:
    mixer, u = make().eval(), draw(generator, 3, 9, D)
    with torch.no_grad():
        _, state = mixer.prefill(u[:, :prompt])
        assert sum(x.numel() for x in tensors(state)) == 3 * mixer.state_size(prompt)
        _, state = generate(mixer, u, prompt)
        assert sum(x.numel() for x in tensors(state)) == 3 * mixer.state_size(9)


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
        ("interpolate", "length 17 exceeds max_length 16: with length_policy="),
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


@few_mixers
def test_arguments_that_do_not_fit(make: Make, generator: torch.Generator) -> None:
    mixer, u = make(), draw(generator, 2, 5, D)
    name = type(mixer).__name__
    right = torch.ones(2, 5, dtype=torch.bool)
    right[1, 4] = False
    with pytest.raises(
        ValueError,
        match=re.escape(
            f"{name}.prefill: expected padding on the left only, got rows with padding at "
        ),
    ):
        mixer.prefill(u, mask=right)
    with pytest.raises(
        ValueError, match=re.escape(f"{name}: expected mask of bool (B, L) = (2, 5)")
    ):
        mixer.prefill(u, mask=right[:, :4])
    _, state = mixer.prefill(u)
    for bad in (u, u[:1, 0], u[:, 0, :3]):
        with pytest.raises(
            ValueError,
            match=re.escape(f"{name}.step: expected u (B, D) = (2, 4), got {tuple(bad.shape)}"),
        ):
            mixer.step(bad, state)
