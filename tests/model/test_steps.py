"""Prefill and steps give what the forward pass gives."""

import pytest
import torch
from comparison import assert_close
from small_models import PATTERNS, small_model, tokens
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


@pytest.mark.parametrize("mixers", PATTERNS)
@torch.no_grad()
def test_a_state_is_a_value(mixers: str) -> None:
    # two continuations of one state do not disturb one another, nor the state
    model, ids = small_model(mixers), tokens(2, 9)
    _, state = model.prefill(ids[:, :7])
    before = [t.clone() for t in flat(state)]
    first, after = model.step(ids[:, 7], state)
    model.step((ids[:, 7] + 1) % 29, state)
    again, _ = model.step(ids[:, 7], state)
    assert torch.equal(first, again)
    assert all(torch.equal(a, b) for a, b in zip(before, flat(state), strict=True))
    assert (state.length, after.length) == (7, 8)


@pytest.mark.parametrize("mixers", PATTERNS)
@torch.no_grad()
def test_the_state_has_the_stated_size(mixers: str) -> None:
    model = small_model(mixers)
    _, state = model.prefill(tokens(1, 7))
    for length in (7, 8, 9):
        assert sum(t.numel() for t in flat(state)) == model.state_size(length)
        _, state = model.step(tokens(1), state)


@torch.no_grad()
def test_wrong_ids_of_a_step_are_refused() -> None:
    model = small_model()
    _, state = model.prefill(tokens(2, 3))
    with pytest.raises(ValueError, match=r"expected int64 input_ids \(B,\), got \(2, 1\)"):
        model.step(tokens(2, 1), state)
    with pytest.raises(ValueError, match="token id 29 is outside the vocabulary of 29"):
        model.step(torch.tensor([0, 29]), state)


@torch.no_grad()
def test_the_state_of_another_model_is_refused() -> None:
    model = small_model("hyena,attention", layers=2)
    _, state = model.prefill(tokens(2, 3))
    with pytest.raises(ValueError, match="the state is of 2 layers, but the model has 3; pass wh"):
        small_model("hyena,attention", layers=3).step(tokens(2), state)
    for changes in ({"mixers": "attention,hyena"}, {"order": 2}, {"short_width": 4}, {"width": 24}):
        other = small_model(**{"mixers": "hyena,attention", "layers": 2, **changes})
        with pytest.raises(ValueError, match="is that of a mixer of another kind or size; pass wh"):
            other.step(tokens(2), state)


def flat(state: ModelState) -> list[Tensor]:
    """Every tensor of a state."""
    found: list[Tensor] = []

    def walk(value: object) -> None:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, tuple):
            for item in value:
                walk(item)

    walk(state.layers)
    return found
