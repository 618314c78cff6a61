"""Every mixer generates: a prefill and steps equal forward, and a state is a value."""

import re

import pytest
import torch
from comparison import assert_all_close, assert_close, with_module_gradients
from mixer_cases import CASES, CAUSAL, D, M, build, draw, each_mixer, generate
from states import numbers_held

from hyena.mixers import (
    SPECS,
)

each_order = pytest.mark.parametrize("name", [*CASES, *CAUSAL])


@each_order
@pytest.mark.parametrize("training", [True, False])
def test_prefill_and_steps_equal_forward(
    name: str, training: bool, generator: torch.Generator
) -> None:
    mixer, u = build(name).train(training), draw(generator, 2, M, D)
    with torch.no_grad():
        for prompt in (1, 2, 9, M):
            assert_close(generate(mixer, u, prompt)[0], mixer(u), 1e-11)


@each_mixer
def test_prompts_with_padding_on_the_left(name: str, generator: torch.Generator) -> None:
    mixer, u = build(name).eval(), draw(generator, 3, M, D)
    mask = torch.ones(3, M, dtype=torch.bool)
    for row, padding in enumerate((4, 0, 3)):
        mask[row, :padding] = False
        u[row, :padding] = float("nan")
    with torch.no_grad():
        for prompt in (5, 8):
            y, _ = generate(mixer, u, prompt, mask)
            for row, padding in enumerate((4, 0, 3)):
                assert_close(y[row, padding:], mixer(u[row : row + 1, padding:])[0], 1e-11)


@each_order
def test_planned_for_the_tokens_to_come(name: str, generator: torch.Generator) -> None:
    mixer, u = build(name).eval(), draw(generator, 2, M, D)
    with torch.no_grad():
        for prompt in (1, 5, 9):
            y, _ = generate(mixer, u, prompt, future=M - prompt)
            assert_close(y, mixer(u), 1e-11)
            kept, _ = generate(mixer, u, prompt, future=2, keep_inputs=True)
            assert_close(kept, mixer(u), 1e-11)


@each_mixer
def test_gradients_flow_through_a_state_or_are_refused(
    name: str, generator: torch.Generator
) -> None:
    mixer, u = build(name), draw(generator, 2, 9, D)
    if issubclass(SPECS[name.split(",")[0]].state, tuple):  # a step makes a new one
        expected = with_module_gradients(mixer, mixer, u)
        got = with_module_gradients(mixer, lambda u: generate(mixer, u, 4)[0], u)
        assert_all_close(got, expected, 1e-10)
        return
    message = f"{type(mixer).__name__}.step: generation records no gradients; call it under torch."
    for frozen in (False, True):
        y, state = mixer.requires_grad_(not frozen).prefill(u.requires_grad_(), future=3)
        assert y.requires_grad  # of the prompt it is there
        assert not any(x.requires_grad for x in state.tensors().values())
        with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
            mixer.step(u[:, 0], state)
    assert not mixer.step(u[:, 0].detach(), state)[0].requires_grad


@pytest.mark.parametrize("future", [None, 4])
@each_mixer
def test_a_copy_goes_on_by_itself(
    name: str, future: int | None, generator: torch.Generator
) -> None:
    mixer, u = build(name).eval(), draw(generator, 2, 9, D)
    with torch.no_grad():
        _, state = mixer.prefill(u[:, :5], future=future)
        _, state = mixer.step(u[:, 5], state)
        other = state.copy()
        before = {key: x.clone() for key, x in other.tensors().items()}
        first, state = mixer.step(u[:, 6], state)
        mixer.step(u[:, 7], state)
        assert all(torch.equal(x, before[key]) for key, x in other.tensors().items())
        again, _ = mixer.step(u[:, 6], other.copy())
        fork, other = mixer.step(u[:, 8], other)
        assert torch.equal(first, again)
        assert_close(fork, mixer(torch.cat([u[:, :6], u[:, 8:]], dim=1))[:, -1], 1e-11)


@pytest.mark.parametrize("future", [None, 6])
@each_mixer
def test_rows_are_chosen_and_joined(
    name: str, future: int | None, generator: torch.Generator
) -> None:
    mixer, u = build(name).eval(), draw(generator, 3, 9, D)
    mask = torch.ones(3, 9, dtype=torch.bool)
    mask[1, :2] = False
    with torch.no_grad():
        expected, _ = generate(mixer, u, 4, mask, future)
        _, state = mixer.prefill(u[:, :4], mask=mask[:, :4], future=future)
        _, state = mixer.step(u[:, 4], state)
        for rows in ([2, 0, 0], torch.tensor([1]), [1, 2], []):
            y, _ = mixer.step(u[rows, 5], state.select(rows))
            assert_close(y, expected[rows, 5], 1e-11)
        joined = type(state).join([state.select([2]), state.select([0, 1])])
        order = [2, 0, 1]
        for t in range(5, 9):
            y, joined = mixer.step(u[order, t], joined)
            assert_close(y, expected[order, t], 1e-11)
        y, state = mixer.step(u[:, 5], state)  # which none of this touched
        assert_close(y, expected[:, 5], 1e-11)


@each_mixer
def test_states_that_cannot_be_joined(name: str, generator: torch.Generator) -> None:
    mixer = build(name).eval()
    kind = SPECS[name.split(",")[0]].state
    with pytest.raises(ValueError, match=f"^{kind.__name__}.join: expected at least one state"):
        kind.join([])
    if not issubclass(kind, tuple):
        states = [mixer.prefill(draw(generator, 1, n, D))[1] for n in (4, 5)]
        with pytest.raises(ValueError, match=rf"^{kind.__name__}\.join: "):
            kind.join(states)


@pytest.mark.parametrize("future", [None, 5])
@each_mixer
def test_stored_and_taken_up_again(
    name: str, future: int | None, generator: torch.Generator
) -> None:
    mixer, u = build(name).eval(), draw(generator, 2, 9, D)
    with torch.no_grad():
        _, state = mixer.prefill(u[:, :4], future=future)
        for t in range(4, 9):
            tensors = {key: x.clone() for key, x in state.tensors().items()}
            assert not any(x.is_complex() for x in tensors.values())  # which files do not hold
            again = type(state).from_tensors(tensors, dict(state.settings()))
            expected, state = mixer.step(u[:, t], state)
            assert torch.equal(mixer.step(u[:, t], again)[0], expected)


@each_mixer
def test_in_inference_mode_and_outside(name: str, generator: torch.Generator) -> None:
    mixer, u = build(name).eval(), draw(generator, 2, 9, D)
    expected = mixer(u).detach()
    for future in (None, 5):
        with torch.inference_mode():
            _, state = mixer.prefill(u[:, :4], future=future)
            _, state = mixer.step(u[:, 4], state)
        with torch.no_grad():
            y, state = mixer.step(u[:, 5], state)
            assert_close(y, expected[:, 5], 1e-11)
        with torch.inference_mode():
            state = type(state).join([state.select([0]), state.copy().select([1])])
            y, state = mixer.step(u[:, 6], state)
        with torch.no_grad():
            y, state = mixer.step(u[:, 7], state)
            assert_close(y, expected[:, 7], 1e-11)


@pytest.mark.cpu
@each_mixer
def test_a_state_that_is_there_is_not_moved(name: str, generator: torch.Generator) -> None:
    mixer, u = build(name).eval(), draw(generator, 1, 3, D)
    with torch.no_grad():
        _, state = mixer.prefill(u, future=2)
        there = state.to("cpu")
        expected = mixer(torch.cat([u, u[:, :1]], 1))[:, -1]
        assert_close(mixer.step(u[:, 0], there)[0], expected, 1e-11)
    assert {x.device.type for x in state.to("meta").tensors().values()} == {"meta"}


@each_order
def test_the_size_of_the_state(name: str, generator: torch.Generator) -> None:
    mixer, u = build(name).eval(), draw(generator, 3, 9, D)
    with torch.no_grad():
        for prompt in (1, 2, 7):
            for future in (None, 0, 1, 5):
                _, state = mixer.prefill(u[:, :prompt], future=future)
                assert numbers_held(state) == 3 * mixer.state_size(prompt, future)
