"""Steps of generation as ONNX files, and as the functions that they are made of."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from comparison import assert_close
from small_exports import TOLERANCE, model_of, tokens

import hyena
from hyena.distillation import distill
from hyena.export import initial_state, state_arrays, step_to_onnx
from hyena.export.parity import onnx_session, step_parity
from hyena.export.step import Step
from hyena.model import FilterConfig, LanguageModel

STEPPED: dict[str, tuple[str, dict[str, Any]]] = {
    "s4d": ("hyena", {"filter": FilterConfig(kind="s4d", state=6)}),
    "modal": ("hyena", {"filter": FilterConfig(kind="modal", modes=3, groups=4)}),
    "rational": ("hyena", {"filter": FilterConfig(kind="transfer-function", degree=4)}),
    "explicit": ("hyena", {"filter": FilterConfig(kind="explicit", taps=5)}),
    "one tap": ("hyena", {"filter": FilterConfig(kind="explicit", taps=1), "short_width": 1}),
    "stripes": ("hyena-se,hyena-mr,hyena-li", {"layers": 3}),
    "attention": ("attention", {"kv_heads": 1}),
    "no positions": ("attention", {"positions": "none"}),
}


@pytest.mark.parametrize("name", STEPPED)
def test_steps_are_the_whole(name: str) -> None:
    mixers, options = STEPPED[name]
    model = model_of(mixers, **{"layers": 1, **options})
    step = Step("step", model)
    assert list(step.empty) == list(step.axes)
    ids = tokens(3, 20)
    state = [x.expand(3, *x.shape[1:]) for x in step.empty.values()]
    with torch.no_grad():
        for token, expected in zip(ids.unbind(1), model(ids).unbind(1), strict=True):
            logits, state = step(token, state)
            assert_close(logits, expected, TOLERANCE)
        _, left = model.prefill(ids)
    for after, (key, expected_state) in zip(state, state_arrays(left).items(), strict=True):
        assert key in step.empty
        if after.numel():
            assert_close(after, torch.from_numpy(expected_state), TOLERANCE)


@pytest.fixture(scope="module")
def distilled() -> LanguageModel:
    return distill(model_of("hyena,attention", kv_heads=1, max_length=64), state=6).model


def test_a_loop_in_onnxruntime_generates_the_same(distilled: LanguageModel, tmp_path: Path) -> None:
    step_to_onnx(distilled, tmp_path / "step.onnx")
    session = onnx_session(tmp_path / "step.onnx")
    prompt = tokens(2, 9)
    generated = distilled.generate(prompt.tolist(), max_new_tokens=20, temperature=0)
    with torch.no_grad():
        logits, state = distilled.prefill(prompt)
    arrays, found = state_arrays(state), []
    token = logits[:, -1].argmax(-1)
    for _ in range(20):
        found.append(token)
        with torch.no_grad():
            logits, state = distilled.step(token, state)
        got, *after = session.run(None, {"input_ids": token.numpy(), **arrays})
        assert_close(torch.from_numpy(got), logits, 1e-5)
        arrays, token = dict(zip(arrays, after, strict=True)), torch.from_numpy(got).argmax(-1)
    expected = [generation.tokens for generation in generated]
    assert torch.stack(found, dim=1).tolist() == expected
    assert step_parity(distilled, tmp_path / "step.onnx") < 1e-5  # from the first token on

    empty = initial_state(session, 3)
    assert list(empty) == list(arrays)
    assert all(x.shape[0] == 3 and x.dtype == np.float32 and not x.any() for x in empty.values())
    assert empty["layers.1.k"].shape == (3, 1, 0, 4)


def test_a_step_goes_on_beyond_max_length_as_a_model_that_extrapolates(
    distilled: LanguageModel, tmp_path: Path
) -> None:
    step_to_onnx(distilled, tmp_path / "step.onnx")
    session = onnx_session(tmp_path / "step.onnx")
    distilled.save(tmp_path / "model")
    longer = hyena.load(tmp_path / "model", length_policy="extrapolate")
    ids = tokens(1, 70)  # of which max_length are 64
    state = initial_state(session)
    for token in ids[0]:
        logits, *after = session.run(None, {"input_ids": token[None].numpy(), **state})
        state = dict(zip(state, after, strict=True))
    with torch.no_grad():
        assert_close(torch.from_numpy(logits), longer(ids)[:, -1], 1e-5)


def test_what_has_no_step_is_told_in_a_line(tmp_path: Path) -> None:
    file = tmp_path / "step.onnx"
    with pytest.raises(ValueError, match=r"step_to_onnx: layer 1, hyena, keeps all its inputs"):
        step_to_onnx(model_of("attention,hyena"), file)
    with pytest.raises(ValueError, match=r"layer 0, rwkv, cannot be exported as a step; expected"):
        step_to_onnx(model_of("rwkv", layers=1), file)
    with pytest.raises(ValueError, match="step_to_onnx: the model's positions are learned"):
        step_to_onnx(model_of("attention", layers=1, positions="learned"), file)
    with pytest.raises(TypeError, match="step_to_onnx: expected a LanguageModel"):
        step_to_onnx(torch.nn.Linear(2, 2), file)  # type: ignore[arg-type]
    model = model_of("attention", layers=1)
    _, state = model.prefill(tokens(2, 5), mask=torch.tensor([[False] + 4 * [True], 5 * [True]]))
    with pytest.raises(ValueError, match="state_arrays: rows of the prompt are padded"):
        state_arrays(state)
