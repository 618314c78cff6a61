"""Prefill and steps equal the forward pass over the whole, for every causal mixer."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from comparison import assert_close
from states import numbers_held
from torch import Tensor

from hyena.filters import DiagonalSSM, LongFilter
from hyena.mixers import RWKV, AFTConv, CausalSelfAttention, HyenaOperator, LinearAttention

D, M = 4, 16
Make = Callable[[], Any]


def hyena(order: int, **options: Any) -> Make:
    return lambda: HyenaOperator(D, M, order, dtype=torch.float64, **options)


def recurrent(order: int) -> HyenaOperator:
    taps = DiagonalSSM(D, filters=order - 1, state=6, dtype=torch.float64)
    filter = LongFilter(taps, D, M, filters=order - 1, dtype=torch.float64)
    return HyenaOperator(D, M, order, filter=filter, dtype=torch.float64)


def aft_conv(taps: int) -> AFTConv:
    mixer = AFTConv(D, taps=taps, dtype=torch.float64)
    with torch.no_grad():  # which begin at zero
        mixer.gain.normal_()
        mixer.offset.normal_()
    return mixer


MIXERS: dict[str, Make] = {
    **{f"hyena {n}, short {k}": hyena(n, short_width=k) for n in (2, 3, 4) for k in range(1, 6)},
    "hyena 3, recurrences": lambda: recurrent(3),
    "attention": lambda: CausalSelfAttention(D, head_dim=2, dtype=torch.float64),
    "linear attention": lambda: LinearAttention(D, head_dim=2, dtype=torch.float64),
    "RWKV": lambda: RWKV(D, dtype=torch.float64),
    "AFT-conv": lambda: aft_conv(4),
    "AFT-conv, long window": lambda: aft_conv(32),
}
each_mixer = pytest.mark.parametrize("make", MIXERS.values(), ids=MIXERS)
FEW = {
    name: MIXERS[name]
    for name in ("hyena 2, short 3", "hyena 3, short 4", "hyena 3, recurrences", "attention")
}
few_mixers = pytest.mark.parametrize("make", FEW.values(), ids=FEW)


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


@few_mixers
@pytest.mark.parametrize("frozen", [True, False])
def test_a_step_records_no_gradient(make: Make, frozen: bool, generator: torch.Generator) -> None:
    mixer, u = make().requires_grad_(not frozen), draw(generator, 2, 7, D)
    y, state = mixer.prefill(u.requires_grad_(), future=3)
    assert y.requires_grad  # of the prompt it is there
    assert not any(x.requires_grad for x in state.tensors().values())
    message = f"{type(mixer).__name__}.step: generation records no gradients; call it under torch."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        mixer.step(u[:, 0], state)
    if frozen:
        assert not mixer.step(u[:, 0].detach(), state)[0].requires_grad


@pytest.mark.parametrize("future", [None, 4])
@each_mixer
def test_a_copy_goes_on_by_itself(
    make: Make, future: int | None, generator: torch.Generator
) -> None:
    mixer, u = make().eval(), draw(generator, 2, 9, D)
    with torch.no_grad():
        _, state = mixer.prefill(u[:, :5], future=future)
        _, state = mixer.step(u[:, 5], state)
        copy = state.copy()
        before = {name: x.clone() for name, x in copy.tensors().items()}
        first, state = mixer.step(u[:, 6], state)
        mixer.step(u[:, 7], state)
        assert all(torch.equal(x, before[name]) for name, x in copy.tensors().items())
        again, _ = mixer.step(u[:, 6], copy.copy())
        fork, copy = mixer.step(u[:, 8], copy)
        assert torch.equal(first, again)
        assert_close(fork, mixer(torch.cat([u[:, :6], u[:, 8:]], dim=1))[:, -1], 1e-12)


@pytest.mark.parametrize("future", [None, 6])
@each_mixer
def test_rows_are_chosen_and_joined(
    make: Make, future: int | None, generator: torch.Generator
) -> None:
    mixer, u = make().eval(), draw(generator, 3, 9, D)
    mask = torch.ones(3, 9, dtype=torch.bool)
    mask[1, :2] = False
    with torch.no_grad():
        expected, _ = generate(mixer, u, 4, mask, future)
        _, state = mixer.prefill(u[:, :4], mask=mask[:, :4], future=future)
        _, state = mixer.step(u[:, 4], state)
        for rows in ([2, 0, 0], torch.tensor([1]), [1, 2], []):
            y, _ = mixer.step(u[rows, 5], state.select(rows))
            assert_close(y, expected[rows, 5], 1e-12)
        parts = [state.select([2]), state.select([0, 1])]
        joined = type(state).join(parts)
        order = [2, 0, 1]
        for t in range(5, 9):
            y, joined = mixer.step(u[order, t], joined)
            assert_close(y, expected[order, t], 1e-12)
        y, state = mixer.step(u[:, 5], state)  # which none of this touched
        assert_close(y, expected[:, 5], 1e-12)
        assert_close(mixer.step(u[[2], 5], parts[0])[0], expected[[2], 5], 1e-12)


@few_mixers
def test_states_that_cannot_be_joined(make: Make, generator: torch.Generator) -> None:
    mixer, u = make().eval(), draw(generator, 2, 9, D)
    with torch.no_grad():
        _, state = mixer.prefill(u[:, :5])
        _, longer = mixer.step(u[:, 5], state.copy())
        kind = type(state)
        with pytest.raises(ValueError, match=f"^{kind.__name__}.join: the states differ"):
            kind.join([state, longer])
        with pytest.raises(ValueError, match=f"^{kind.__name__}.join: expected at least one state"):
            kind.join([])


@each_mixer
@pytest.mark.parametrize("future", [None, 5])
def test_stored_and_taken_up_again(
    make: Make, future: int | None, generator: torch.Generator
) -> None:
    mixer, u = make().eval(), draw(generator, 2, 9, D)
    with torch.no_grad():
        _, state = mixer.prefill(u[:, :4], future=future)
        for t in range(4, 9):
            tensors = {name: x.clone() for name, x in state.tensors().items()}
            again = type(state).from_tensors(tensors, dict(state.settings()))
            expected, state = mixer.step(u[:, t], state)
            assert torch.equal(mixer.step(u[:, t], again)[0], expected)


@each_mixer
def test_in_inference_mode_and_outside(make: Make, generator: torch.Generator) -> None:
    mixer, u = make().eval(), draw(generator, 2, 9, D)
    expected = mixer(u).detach()
    for future in (None, 5):
        with torch.inference_mode():
            _, state = mixer.prefill(u[:, :4], future=future)
            _, state = mixer.step(u[:, 4], state)
        with torch.no_grad():
            y, state = mixer.step(u[:, 5], state)
            assert_close(y, expected[:, 5], 1e-12)
        with torch.inference_mode():
            state = type(state).join([state.select([0]), state.copy().select([1])])
            y, state = mixer.step(u[:, 6], state)
        with torch.no_grad():
            y, state = mixer.step(u[:, 7], state)
            assert_close(y, expected[:, 7], 1e-12)


@each_mixer
def test_a_state_that_is_there_is_not_moved(make: Make, generator: torch.Generator) -> None:
    mixer, u = make().eval(), draw(generator, 1, 3, D)
    with torch.no_grad():
        _, state = mixer.prefill(u, future=2)
        there = state.to("cpu")
        assert_close(
            mixer.step(u[:, 0], there)[0], mixer(torch.cat([u, u[:, :1]], 1))[:, -1], 1e-12
        )
    moved = state.to("meta")
    assert {x.device.type for x in moved.tensors().values()} == {"meta"}


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


@each_mixer
@torch.no_grad()
def test_a_state_that_would_round_what_follows_is_refused(
    make: Make, generator: torch.Generator
) -> None:
    mixer, u = make().float(), draw(generator, 2, 6, D)
    _, state = mixer.prefill(u[:, :5].float())
    message = (
        f"{type(mixer).__name__}.step: u is torch.float64 but the state is torch.float32, which "
        "would round what follows; read the prompt anew in torch.float64, or go on in torch.float32"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        mixer.double().step(u[:, 5], state)
    expected = mixer(u)[:, -1]
    assert_close(mixer.float().step(u[:, 5].float(), state)[0].double(), expected, 1e-5)
