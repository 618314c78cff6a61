"""Prefill and steps give what the forward pass gives."""

import copy
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from comparison import assert_close
from small_models import PATTERNS, STRIPES, small_model, tokens
from states import numbers_held
from torch import Tensor

from hyena.model import FilterConfig, LanguageModel, ModelState

LENGTH = 24


def continued(model: LanguageModel, ids: Tensor, known: int, mask: Tensor | None = None) -> Tensor:
    """Logits of prefill on the first ``known`` tokens and a step for each of the others."""
    logits, state = model.prefill(ids[:, :known], mask=mask)
    steps = []
    for t in range(known, ids.shape[1]):
        y, state = model.step(ids[:, t], state)
        steps.append(y)
    return torch.cat([logits, torch.stack(steps, dim=1)], dim=1)


@pytest.mark.parametrize("mixers", PATTERNS)
@pytest.mark.parametrize("known", [1, 2, 13, 23])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@torch.no_grad()
def test_steps_are_the_forward_pass(
    mixers: str, known: int, dtype: torch.dtype, bound: float
) -> None:
    model, ids = small_model(mixers, dtype), tokens(2, LENGTH)
    assert_close(continued(model, ids, known), model(ids), bound)


@pytest.mark.parametrize("mixers", PATTERNS)
@pytest.mark.parametrize(
    "changes",
    [
        {"short_width": 1},
        {"short_width": 5},
        {"order": 2},
        {"filter": FilterConfig(emb_dim=5, width=6, train_encoding=True, shift=0.1)},
        STRIPES,
        {"mlp": "gated", "activation": "silu"},
    ],
    ids=str,
)
@torch.no_grad()
def test_steps_are_the_forward_pass_whatever_the_settings(mixers: str, changes: dict) -> None:
    model, ids = small_model(mixers, **changes), tokens(2, LENGTH)
    assert_close(continued(model, ids, 3), model(ids), 1e-10)


@pytest.mark.parametrize("mixers", PATTERNS)
@torch.no_grad()
def test_prompts_of_different_lengths_go_on_as_if_alone(mixers: str) -> None:
    model, ids = small_model(mixers), tokens(3, LENGTH)
    starts = torch.tensor([0, 4, 9])  # padding before them
    mask = torch.arange(10) >= starts[:, None]
    logits = continued(model, ids, 10, mask)
    for row, start in enumerate(starts.tolist()):
        assert_close(logits[row, start:], model(ids[row : row + 1, start:])[0], 1e-10)


@torch.no_grad()
def test_padding_on_the_right_cannot_be_continued() -> None:
    for row in ([True, True, False], [True, False, True], [False, False, False]):
        with pytest.raises(ValueError, match="prefill: expected padding on the left only, got row"):
            small_model().prefill(tokens(1, 3), mask=torch.tensor([row]))


@pytest.mark.parametrize("of", [ModelState.copy, copy.copy, copy.deepcopy])
@pytest.mark.parametrize("future", [None, 3])
@pytest.mark.parametrize("mixers", PATTERNS)
@torch.no_grad()
def test_a_copy_goes_on_by_itself(
    mixers: str, future: int | None, of: Callable[[ModelState], ModelState]
) -> None:
    # two continuations of one state do not disturb one another
    model, ids = small_model(mixers), tokens(2, 10)
    _, state = model.prefill(ids[:, :7], future=future)
    copied = of(state)
    first, state = model.step(ids[:, 7], state)
    model.step(ids[:, 8], state)
    assert (copied.length, state.length) == (7, 9)
    again, copied = model.step(ids[:, 7], copied)
    assert torch.equal(first, again)
    other, _ = model.step(ids[:, 9], copied)
    assert_close(other, model(ids[:, [0, 1, 2, 3, 4, 5, 6, 7, 9]])[:, -1], 1e-10)


@torch.no_grad()
def test_the_state_is_advanced_in_place() -> None:
    model, ids = small_model("hyena,attention,rwkv"), tokens(2, 4)
    _, state = model.prefill(ids)
    _, after = model.step(ids[:, 0], state)
    assert after is state
    assert state.length == 5


@pytest.mark.parametrize("future", [None, 14])
@pytest.mark.parametrize("mixers", [*PATTERNS, "rwkv,hyena,s4d"])
@torch.no_grad()
def test_sequences_are_dropped_repeated_and_joined(mixers: str, future: int | None) -> None:
    model, ids = small_model(mixers), tokens(3, LENGTH)
    starts = torch.tensor([0, 4, 9])
    mask = torch.arange(10) >= starts[:, None]
    expected = continued(model, ids, 10, mask)[:, 10:]
    _, state = model.prefill(ids[:, :10], mask=mask, future=future)
    rows = [0, 1, 2]
    for t in range(10, LENGTH):
        if t == 12:
            rows, state = [2, 0], state.select([2, 0])
        if t == 15:
            rows, state = [0, 2, 0], state.select(torch.tensor([1, 0, 1]))
        if t == 17:
            state = ModelState.join([state.select([0, 1]), state.select([2])])
        logits, state = model.step(ids[rows, t], state)
        assert_close(logits, expected[rows, t - 10], 1e-10)


@pytest.mark.parametrize(
    ("rows", "got"),
    [
        ([2], "2"),
        ([0, -1], "-1"),
        (torch.tensor([5]), "5"),
        ([0.5], r"\[0\.5\]"),
        ([True], r"\[True\]"),
        ([[0]], r"\[\[0\]\]"),
        (0, "0"),
        ("a", "'a'"),
        (None, "None"),
    ],
)
@torch.no_grad()
def test_rows_that_are_not_there_are_one_line(rows: Any, got: str) -> None:
    _, state = small_model("hyena,attention").prefill(tokens(2, 5))
    expected = r"^ModelState\.select: expected a list of indices below 2, the number of rows, got "
    with pytest.raises(ValueError, match=rf"{expected}{got}$"):
        state.select(rows)


@torch.no_grad()
def test_states_that_cannot_be_joined() -> None:
    model, ids = small_model("hyena,attention"), tokens(2, 9)
    _, state = model.prefill(ids[:, :7])
    _, longer = model.prefill(ids)
    _, planned = model.prefill(ids[:, :7], future=3)
    _, other = small_model("attention,hyena").prefill(ids[:, :7])
    with pytest.raises(ValueError, match=r"the states are after 7, 9 tokens; join states at one"):
        ModelState.join([state, longer])
    with pytest.raises(ValueError, match=r"HyenaState\.join: the states differ in inputs, \(2, 24"):
        ModelState.join([state, planned])
    with pytest.raises(ValueError, match=r"join: the states are of different models"):
        ModelState.join([state, other])
    with pytest.raises(ValueError, match=r"join: expected at least one state, got none"):
        ModelState.join([])
    for states in ([state, None], "ab"):
        with pytest.raises(TypeError, match=r"join: expected ModelStates, got (None|s)"):
            ModelState.join(states)


@pytest.mark.parametrize("mixers", PATTERNS)
@torch.no_grad()
def test_the_state_has_the_stated_size(mixers: str) -> None:
    model = small_model(mixers)
    for length in (7, 20):
        for future in (None, 0, 1, 4):
            _, state = model.prefill(tokens(1, length), future=future)
            held = sum(map(numbers_held, state.layers))
            assert held == model.state_size(length, future)
    if "attention" not in mixers:  # a planned state's size has nothing to do with the prompt's
        assert model.state_size(20, 4) == model.state_size(7, 4)


@pytest.mark.parametrize("mixers", PATTERNS)
@torch.no_grad()
def test_logits_of_the_last_position_only(mixers: str) -> None:
    model, ids = small_model(mixers), tokens(2, 9)
    mask = torch.arange(9) >= torch.tensor([[0], [3]])
    every, _ = model.prefill(ids, mask=mask)
    last, _ = model.prefill(ids, mask=mask, last_only=True)
    assert last.shape == (2, 1, 29)
    assert_close(last, every[:, -1:], 1e-12)


@pytest.mark.parametrize("mixers", PATTERNS)
@pytest.mark.parametrize(("known", "future"), [(1, 23), (13, 11), (5, 7)])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@torch.no_grad()
def test_planned_steps_are_the_forward_pass(
    mixers: str, known: int, future: int, dtype: torch.dtype, bound: float
) -> None:
    model, ids = small_model(mixers, dtype), tokens(2, known + future)
    logits, state = model.prefill(ids[:, :known], future=future)
    steps = [logits]
    for t in range(known, known + future):
        logits, state = model.step(ids[:, t], state)
        steps.append(logits[:, None])
    assert_close(torch.cat(steps, dim=1), model(ids), bound)


@torch.no_grad()
def test_a_plan_ends() -> None:
    model, ids = small_model("attention,hyena"), tokens(2, 9)
    _, state = model.prefill(ids[:, :5], future=1)
    _, state = model.step(ids[:, 5], state)
    with pytest.raises(ValueError, match=r"tokens that were planned for have come"):
        model.step(ids[:, 6], state)
    _, state = model.prefill(ids[:, :5], future=1, keep_inputs=True)
    for t in range(5, 9):
        logits, state = model.step(ids[:, t], state)
    assert_close(logits, model(ids)[:, -1], 1e-10)


@torch.no_grad()
def test_a_step_that_fails_half_way_is_not_gone_on_from() -> None:
    model, ids = small_model("attention,hyena"), tokens(2, 9)
    _, state = model.prefill(ids[:, :5], future=0)
    copy = state.copy()
    with pytest.raises(ValueError, match=r"tokens that were planned for have come"):
        model.step(ids[:, 5], state)
    for broken in (state, state.copy(), state.select([0, 1]), ModelState.join([state])):
        with pytest.raises(ValueError, match=r"step: an error left this state in the middle of a"):
            model.step(ids[:, 5], broken)
    with pytest.raises(ValueError, match=r"tokens that were planned for have come"):
        model.step(ids[:, 5], copy)


@pytest.mark.parametrize("mixer", ["hyena", "attention"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, TypeError])
@torch.no_grad()
def test_a_step_interrupted_in_its_first_layer_is_not_gone_on_from(
    error: type[BaseException], mixer: str
) -> None:
    model = small_model(mixer)
    _, state = model.prefill(tokens(1, 3))

    def interrupt(*_: object) -> None:
        raise error

    with model.blocks[0].mlp.register_forward_pre_hook(interrupt), pytest.raises(error):
        model.step(tokens(1, 1)[:, 0], state)  # its mixer has read the token
    with pytest.raises(ValueError, match=r"^LanguageModel.step: an error left this state in"):
        model.step(tokens(1, 1)[:, 0], state)


@pytest.mark.parametrize("mixer", ["hyena", "attention"])
@torch.no_grad()
def test_a_step_that_its_first_layer_refused_may_be_taken_again(mixer: str) -> None:
    model, ids = small_model(mixer), tokens(2, 6)
    _, state = model.prefill(ids[:, :5])

    def refuse(*_: object) -> None:
        raise ValueError("before the mixer")

    with (
        model.blocks[0].norm1.register_forward_pre_hook(refuse),
        pytest.raises(ValueError, match="b"),
    ):
        model.step(ids[:, 5], state)
    logits, _ = model.step(ids[:, 5], state)
    assert_close(logits, model(ids)[:, 5], 1e-10)


@torch.no_grad()
def test_plans_that_cannot_be() -> None:
    model, ids = small_model("hyena,attention"), tokens(2, 9)
    with pytest.raises(
        ValueError, match=r"9 tokens and future=16 more exceed the model's max_length"
    ):
        model.prefill(ids, future=16)
    for mixers in PATTERNS:
        with pytest.raises(ValueError, match=r"prefill: expected future ≥ 0 tokens, got -1"):
            small_model(mixers).prefill(ids, future=-1)
    stretched = small_model(length_policy="interpolate")
    with pytest.raises(
        ValueError,
        match=r"9 positions and future=16 more exceed max_length 24, .*; plan for at most 15$",
    ):
        stretched.prefill(ids, future=16)
    free = small_model(length_policy="extrapolate")
    logits, state = free.prefill(ids, future=40)
    for t in range(40):
        ids = torch.cat([ids, tokens(2, 1, seed=t)], dim=1)
        logits, state = free.step(ids[:, -1], state)
    assert_close(logits, free(ids)[:, -1], 1e-10)


@torch.no_grad()
def test_wrong_ids_of_a_step_are_refused() -> None:
    model = small_model()
    _, state = model.prefill(tokens(2, 3))
    with pytest.raises(ValueError, match=r"expected input_ids \(B,\), got \(2, 1\)"):
        model.step(tokens(2, 1), state)
    with pytest.raises(ValueError, match="token id 29 is outside the vocabulary of 29"):
        model.step(torch.tensor([0, 29]), state)


@torch.no_grad()
def test_the_state_of_another_model_is_refused() -> None:
    model = small_model("hyena,attention", layers=2)
    _, state = model.prefill(tokens(2, 3))
    with pytest.raises(ValueError, match="the state is of 2 layers, but the model has 3; pass wh"):
        small_model("hyena,attention", layers=3).step(tokens(2), state)
    for changes in ({"order": 2}, {"short_width": 4}, {"width": 24}):
        other = small_model(**{"mixers": "hyena,attention", "layers": 2, **changes})
        with pytest.raises(ValueError, match="is that of a mixer of another kind or size; pass wh"):
            other.step(tokens(2), state)
    with pytest.raises(
        TypeError, match="expected AttentionState, got HyenaState; pass what prefill"
    ):
        small_model("attention,hyena", layers=2).step(tokens(2), state)
    model.step(tokens(2), state)  # which no refusal has changed


@torch.no_grad()
def test_attention_layers_share_a_table_of_rotary_positions() -> None:
    model = small_model("attention")
    assert len(model.blocks) > 1
    states = [model.prefill(tokens(1, 3), future=4)[1] for _ in range(2)]
    for state in states:
        model.step(tokens(1, 1)[0], state)
    assert len({id(layer.turns) for state in states for layer in state.layers}) == 1
    gone = weakref.ref(states[0].layers[0].turns)
    del state, states
    assert gone() is None


def test_a_state_that_is_none_is_a_type_error() -> None:
    model = small_model()
    for state, kind in ((None, "NoneType"), (model.prefill(tokens(1, 2))[1].layers, "list")):
        with pytest.raises(
            TypeError, match=rf"^LanguageModel\.step: expected a ModelState, got {kind}; pass what"
        ):
            model.step(tokens(1), state)  # type: ignore[arg-type]
