"""A model's prefill from a state: pieces of a text are the text."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from comparison import assert_close
from small_models import PATTERNS, small_model, tokens

from hyena.generation import load_state, save_state
from hyena.mixers.hyena import groups
from hyena.model import FilterConfig, LanguageModel, ModelState

HYBRIDS = [*PATTERNS, "rwkv,hyena,s4d", "mamba2,h3,attention", "gss,aft-conv,linear-attention"]
LENGTH = 24


def pieces(
    model: LanguageModel, ids: torch.Tensor, sizes: tuple[int, ...], **first: Any
) -> tuple[torch.Tensor, ModelState]:
    logits, state = model.prefill(ids[:, : sizes[0]], **first)
    parts, at = [logits], sizes[0]
    for size in sizes[1:]:
        logits, after = model.prefill(ids[:, at : at + size], state=state)
        assert after is state  # advanced in place, as by a step
        parts.append(logits)
        at += size
        assert state.length == at
    return torch.cat(parts, dim=1), state


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("mixers", HYBRIDS)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@torch.no_grad()
def test_pieces_are_the_forward_pass(
    mixers: str, order: int, dtype: torch.dtype, bound: float
) -> None:
    model, ids = small_model(mixers, dtype, order=order), tokens(2, LENGTH)
    whole = model(ids)
    for options in ({}, {"future": LENGTH - 5}, {"future": 1, "keep_inputs": True}):
        logits, state = pieces(model, ids, (5, 1, 2, 9, 3), **options)
        assert_close(logits, whole[:, :20], bound)
        for t in range(20, LENGTH):
            logits, state = model.step(ids[:, t], state)
            assert_close(logits, whole[:, t], bound)


@pytest.mark.parametrize("mixers", HYBRIDS)
@torch.no_grad()
def test_prompts_of_different_lengths_are_read_on_together(mixers: str) -> None:
    model, ids = small_model(mixers), tokens(3, LENGTH)
    starts = torch.tensor([0, 4, 9])
    mask = torch.arange(10) >= starts[:, None]
    logits, _ = pieces(model, ids, (10, 6, 8), mask=mask)
    for row, start in enumerate(starts.tolist()):
        assert_close(logits[row, start:], model(ids[row : row + 1, start:])[0], 1e-10)


@torch.no_grad()
def test_pieces_with_a_transfer_function_of_a_root_near_zero() -> None:
    model = small_model("hyena", filter=FilterConfig(kind="transfer-function", degree=9))
    ids = tokens(2, LENGTH)
    for block in model.blocks:
        reflection = block.mixer.get_parameter("filter.taps.reflection")  # type: ignore[union-attr]
        reflection[..., -1] = 1e-4 * torch.randn_like(reflection[..., -1])  # their product
    whole = model(ids)
    assert_close(pieces(model, ids, (5, 1, 9, 9))[0], whole, 1e-10)
    logits, state = model.prefill(ids[:, :9])
    for t in range(9, LENGTH):
        logits, state = model.step(ids[:, t], state)
        assert_close(logits, whole[:, t], 1e-10)


@torch.no_grad()
def test_learned_positions_go_on_where_the_state_is() -> None:
    model, ids = small_model("hyena,attention", positions="learned"), tokens(2, LENGTH)
    assert_close(pieces(model, ids, (5, 1, 18))[0], model(ids), 1e-10)


@torch.no_grad()
def test_logits_of_the_last_position_only() -> None:
    model, ids = small_model("hyena,attention"), tokens(2, LENGTH)
    _, state = model.prefill(ids[:, :9])
    logits, _ = model.prefill(ids[:, 9:], state=state, last_only=True)
    assert logits.shape[1] == 1
    assert_close(logits[:, 0], model(ids)[:, -1], 1e-10)


@torch.no_grad()
def test_a_state_shows_its_rows_and_tokens() -> None:
    model, ids = small_model("hyena,attention"), tokens(2, LENGTH)
    _, state = model.prefill(ids[:, :9])
    _, state = model.step(ids[:, 9], state)
    layers = len(model.blocks)
    assert repr(state) == f"ModelState(batch=2, length=10, layers={layers})"
    assert repr(state.layers[0]) == "HyenaState(batch=2, length=10)"


@torch.no_grad()
def test_a_state_that_does_not_fit_is_one_line_and_stays_as_it_was() -> None:
    model, ids = small_model("hyena,attention"), tokens(2, LENGTH)
    _, state = model.prefill(ids[:, :9])
    _, other = small_model("attention,hyena").prefill(ids[:, :9])
    _, fewer = small_model("hyena", layers=2).prefill(ids[:, :9])
    _, wider = small_model("hyena,attention", width=16).prefill(ids[:, :9])
    mask = torch.ones(2, 5, dtype=torch.bool)
    wrong: list[tuple[type[Exception], str, Any, Any, dict[str, Any]]] = [
        (TypeError, "LanguageModel.prefill: expected a ModelState, got int;", ids, 3, {}),
        (ValueError, "LanguageModel.prefill: the state is of 2 layers, but", ids, fewer, {}),
        (TypeError, "HyenaOperator.prefill: expected HyenaState, got Atten", ids, other, {}),
        (ValueError, "HyenaOperator.prefill: the state, a HyenaState, is", ids, wider, {}),
        (ValueError, "LanguageModel.prefill: expected input_ids (B, L) of the state's B = 2 rows, "
         "got (1, 5)", ids[:1], state, {}),
        (ValueError, "LanguageModel.prefill: expected input_ids (B, L) with L ≥ 1, got (2, 0); go "
         "on with one token or more", ids[:, :0], state, {}),
        (ValueError, "LanguageModel.prefill: expected input_ids (B, L) with L ≥ 1, got (2, 0); "
         "begin with one token or more", ids[:, :0], None, {}),
        (ValueError, "HyenaOperator.prefill: expected no mask beside a state", ids, state,
         {"mask": mask}),
        (ValueError, "LanguageModel.prefill: 14 tokens and future=11 more exceed the model's "
         "max_length 24; plan for 10,", ids, state, {"future": 11}),
    ]  # fmt: skip
    for kind, message, given, of, options in wrong:
        with pytest.raises(kind, match=f"^{re.escape(message)}"):
            model.prefill(given[:, :5], state=of, **options)
    with pytest.raises(ValueError, match=r"^the input is 25 tokens long but"):
        model.prefill(tokens(2, 16), state=state)
    refused = pytest.raises(ValueError, match=r"^HyenaOperator\.prefill: generation records no gra")
    with refused, torch.enable_grad():
        model.prefill(ids[:, :5], state=state)
    assert state.whole
    assert state.length == 9
    assert_close(model.prefill(ids[:, 9:], state=state)[0], model(ids)[:, 9:], 1e-10)


@pytest.mark.parametrize("mixers", HYBRIDS)
@torch.no_grad()
def test_a_state_on_another_device_is_one_line(mixers: str) -> None:
    model, ids = small_model(mixers), tokens(2, LENGTH)
    _, state = model.prefill(ids[:, :9])
    elsewhere = state.to("meta")
    line = (
        r": input_ids are on cpu but the state is on meta; move one of them, as state\.to\('cpu'\)"
    )
    with pytest.raises(ValueError, match=rf"^LanguageModel\.prefill{line}"):
        model.prefill(ids[:, 9:], state=elsewhere)
    with pytest.raises(ValueError, match=rf"^LanguageModel\.step{line}"):
        model.step(ids[:, 9], elsewhere)
    assert elsewhere.whole
    assert all(layer.device == torch.device("meta") for layer in elsewhere.layers)


@pytest.mark.parametrize("mixers", ["hyena", "attention", "attention,hyena"])
@torch.no_grad()
def test_a_state_of_layers_after_different_tokens_is_one_line(mixers: str) -> None:
    model, ids = small_model(mixers), tokens(2, LENGTH)
    _, state = model.prefill(ids[:, :9])
    _, other = model.prefill(ids[:, :10])
    mixed = ModelState([*state.layers[:-1], other.layers[-1]], 9)
    line = "the state is of 9 tokens but one of its layers of 10; pass what prefill or step of"
    with pytest.raises(ValueError, match=rf"^LanguageModel\.prefill: {line}"):
        model.prefill(ids[:, 9:], state=mixed)
    with pytest.raises(ValueError, match=rf"^LanguageModel\.step: {line}"):
        model.step(ids[:, 9], mixed)


@torch.no_grad()
def test_an_error_in_the_middle_is_told() -> None:
    model, ids = small_model("attention,hyena"), tokens(2, 9)
    _, state = model.prefill(ids[:, :5], future=2)
    with pytest.raises(ValueError, match="keeps no inputs, and of its plan 2 tokens are left"):
        model.prefill(ids[:, 5:], state=state)
    with pytest.raises(ValueError, match=r"LanguageModel\.prefill: an error left this state in th"):
        model.prefill(ids[:, 5:6], state=state)


@pytest.mark.parametrize("memory", [0, 1 << 30])
@torch.no_grad()
def test_inputs_kept_in_fewer_bits_stay_so(
    memory: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "SHORTEST", 1)
    model, ids = small_model("hyena,attention"), tokens(2, LENGTH)
    model.working_memory = memory  # none: channels go by groups
    whole = model(ids)
    _, state = model.prefill(ids[:, :9], keep_inputs=torch.bfloat16)
    save_state(state, tmp_path / "state")
    state = load_state(tmp_path / "state")
    for piece in (slice(9, 12), slice(12, 20)):
        logits, state = model.prefill(ids[:, piece], keep_inputs=torch.bfloat16, state=state)
        assert_close(logits, whole[:, piece], 0.02)
    inputs = state.layers[0].tensors()["inputs"]
    assert (inputs.dtype, inputs.shape[-1]) == (torch.bfloat16, 20)
    for t in range(20, LENGTH):
        logits, state = model.step(ids[:, t], state)
        assert_close(logits, whole[:, t], 0.02)
    with pytest.raises(ValueError, match=r"^LanguageModel\.prefill: expected keep_inputs True, Fa"):
        model.prefill(ids, keep_inputs=torch.int8)


@pytest.mark.parametrize("mixers", ["hyena", "hyena,attention", "rwkv,hyena,s4d"])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@torch.no_grad()
def test_steps_may_come_between(mixers: str, dtype: torch.dtype, bound: float) -> None:
    model, ids = small_model(mixers, dtype, max_length=200), tokens(2, 200)
    whole = model(ids)
    for options in ({}, {"future": 195}, {"future": 1, "keep_inputs": True}):
        _, state = model.prefill(ids[:, :5], **options)
        at = 5
        for steps, piece in ((3, 1), (70, 20), (1, 64), (0, 2), (30, 4)):
            for t in range(at, at + steps):
                logits, state = model.step(ids[:, t], state)
                assert_close(logits, whole[:, t], bound)
            at += steps
            logits, state = model.prefill(ids[:, at : at + piece], state=state)
            assert_close(logits, whole[:, at : at + piece], bound)
            at += piece
        assert at == state.length == 200
