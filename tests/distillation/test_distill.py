"""Distilled models: near the model they are made from, and the same in all ways of running."""

import copy
import dataclasses
import functools
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from comparison import assert_close, relative_error
from torch import Tensor

import hyena
from hyena.distillation import Distilled, distill, draw_distillation, logit_error
from hyena.filters import exponentials
from hyena.generation import Generation, SequenceState, generate, load_state, save_state
from hyena.mixers import HyenaOperator
from hyena.model import FilterConfig, LanguageModel, ModelConfig
from hyena.model.config import SSMConfig, StripedConfig

SMOOTH = FilterConfig(emb_dim=5, width=8, sine_freq=4.0, fast_decay=0.2, slow_decay=0.6)


def make(dtype: torch.dtype = torch.float64, **changes: Any) -> LanguageModel:
    """A model with smooth filters that matter, and no bias of zero."""
    values = {
        "vocab_size": 31,
        "width": 8,
        "layers": 2,
        "max_length": 100,
        "order": 3,
        "head_dim": 4,
    }
    config = ModelConfig(**{**values, "filter": SMOOTH, **changes})
    model = LanguageModel(config, generator=torch.Generator().manual_seed(2), dtype=dtype)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".filter.layers." in name:
                parameter.mul_(20)
            elif ".mixer." in name and "_proj." in name and parameter.ndim == 2:
                parameter.mul_(40)
    return model.eval()


def tokens(model: LanguageModel, length: int, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(model.config.vocab_size, (batch, length), generator=generator)


def operators(model: LanguageModel) -> list[HyenaOperator]:
    return [b.mixer for b in model.blocks if isinstance(b.mixer, HyenaOperator)]


@functools.cache  # one for all tests
def distilled(tolerance: float) -> Distilled:
    return distill(make(), tolerance=tolerance)


@pytest.mark.parametrize("tolerance", [1e-1, 1e-2, 1e-3])
def test_every_filter_is_within_the_tolerance(tolerance: float) -> None:
    model = make()
    found = distilled(tolerance)
    for layer, old, new in zip(found.layers, operators(model), operators(found.model), strict=True):
        with torch.no_grad():
            h, g = old.filter(100), new.filter(100)
            h[..., 0] += old.filter.skip
            g[..., 0] += new.filter.skip
        error = (g - h).norm(dim=-1) / h[..., 1:].norm(dim=-1)
        assert_close(layer.error, error, 1e-6)
        assert float(error.max()) <= tolerance
        assert_close(g[..., 0], h[..., 0], 1e-12)
    assert found.order == max(int(layer.fit.order.max()) for layer in found.layers)
    assert found.model.config.filter.state == found.order <= 48


def test_outputs_come_near_as_filters_do() -> None:
    model = make()
    ids = tokens(model, 100)
    errors = [logit_error(model, distilled(t).model, ids) for t in (1e-1, 1e-3)]
    assert 1e-6 < errors[1] < errors[0] / 10 < 0.1
    assert logit_error(model, copy.deepcopy(model), ids) == 0


@pytest.mark.parametrize("form", ["modal", "rational"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 2e-4)])
def test_convolution_steps_and_prefill_agree(
    form: Any, dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = distill(make(dtype), state=4, form=form).model
    ids = tokens(model, 150)  # beyond max_length
    with torch.no_grad():
        full = model(ids)
        _, state = model.prefill(ids[:, :1])
        one_by_one = [full[:, 0]]
        for t in range(1, 150):
            y, state = model.step(ids[:, t], state)
            one_by_one.append(y)
        assert_close(torch.stack(one_by_one, dim=1), full, tolerance)
        monkeypatch.setattr(exponentials, "_PART", 500)  # a few channels at a time
        _, state = model.prefill(ids[:, :100])
        for t in range(100, 150):
            y, state = model.step(ids[:, t], state)
            assert_close(y, full[:, t], tolerance)


@pytest.mark.parametrize("form", ["modal", "rational"])
@pytest.mark.parametrize(("mixers", "order"), [("hyena,attention", 2), ("attention,hyena", 4)])
def test_generation_is_the_full_forward_of_a_distilled_hybrid(
    mixers: str, order: int, form: Any, tmp_path: Path
) -> None:
    model = distill(make(mixers=mixers, order=order), state=4, form=form).model
    prompts = [[1, 2, 3], [4] * 30, [5]]

    def check(prompt: list[int], result: Generation) -> None:
        ids = torch.tensor([[*prompt, *result.tokens]])
        with torch.no_grad():
            own = model(ids)[0, len(prompt) - 1 : -1].log_softmax(-1)
        expected = own.gather(-1, torch.tensor(result.tokens)[:, None])[:, 0]
        found = torch.tensor(result.logprobs, dtype=torch.float64)
        assert float((found - expected).abs().max()) < 1e-8

    options: dict[str, Any] = {"stop_tokens": 7, "return_state": True}
    first = generate(model, prompts, max_new_tokens=110, **options)  # beyond max_length
    assert len({len(result.tokens) for result in first}) > 1
    for i, (prompt, result) in enumerate(zip(prompts, first, strict=True)):
        check(prompt, result)
        read = prompt + result.tokens
        save_state(result.state.model, tmp_path / f"{i}")
        restored = SequenceState(load_state(tmp_path / f"{i}"), tokens=tuple(read))
        (rest,) = generate(model, [[9]], max_new_tokens=20, state=restored)
        check([*read, 9], rest)


def test_the_state_does_not_grow() -> None:
    model = make()
    found = distill(model, state=6).model
    # the short convolution's last inputs, and n numbers for each channel of two convolutions
    assert found.state_size(10) == found.state_size(10_000) == 2 * (4 * 8 * 2 + 2 * 8 * 6)
    assert model.state_size(10_000) > 100 * found.state_size(10_000)


def test_everything_else_is_copied_and_the_model_left_alone() -> None:
    model = make(mixers="hyena,attention,s4d", layers=3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = distill(model, state=4).model
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    new = found.state_dict()
    kept = [
        name for name in before if "mixer.filter" not in name or not name.startswith("blocks.0")
    ]
    assert all(torch.equal(new[name], before[name]) for name in kept)
    assert not any(new[name].data_ptr() == after[name].data_ptr() for name in kept)
    config = dataclasses.replace(found.config, filter=SMOOTH, length_policy="error")
    assert config == model.config  # the state spaces keep their own size
    assert found.config.ssm.state == 64
    assert found.config.filter == FilterConfig(kind="s4d", state=4)
    assert relative_error(found(tokens(model, 50)), model(tokens(model, 50))) < 0.6


@pytest.mark.parametrize("form", ["modal", "rational"])
def test_saved_loaded_and_generating(form: Any, tmp_path: Path) -> None:
    model = distill(make(torch.float32), state=4, form=form).model
    model.save(tmp_path)
    again = hyena.load(tmp_path)
    ids = tokens(model, 30)
    assert torch.equal(again(ids), model(ids))
    assert again.config == model.config
    assert not model.training


def test_filters_of_other_kinds() -> None:
    found = distill(make(filter=FilterConfig(kind="s4d"), ssm=SSMConfig(state=8)), tolerance=1e-3)
    assert found.order <= 8
    assert max(float(layer.error.max()) for layer in found.layers) <= 1e-3
    kinds = FilterConfig(kind="fourier", modes=3)
    found = distill(make(filter=kinds), tolerance=1e-2)
    assert found.order <= 6
    assert max(float(layer.error.max()) for layer in found.layers) <= 1e-2


def test_what_resists_is_reported() -> None:
    rough = dataclasses.replace(SMOOTH, emb_dim=33, sine_freq=100.0, window=False)
    found = distill(make(filter=rough), tolerance=1e-2, largest=8)
    for layer in found.layers:
        assert float(layer.error.median()) > 0.1
        assert bool((layer.fit.bound <= layer.error.flatten() + 1e-9).all())
    assert found.order == 8


def test_length_policies() -> None:
    assert distill(make(length_policy="interpolate"), state=2).model.config.length_policy == (
        "extrapolate"
    )
    learned = make(mixers="hyena,attention", positions="learned")
    assert distill(learned, state=2).model.config.length_policy == "error"


def test_filters_of_narrow_models_are_in_float32() -> None:
    model = make(torch.float32).bfloat16()
    found = distill(model, state=4)
    assert found.model.embedding.weight.dtype == torch.bfloat16
    filter = operators(found.model)[0].filter
    assert {p.dtype for p in filter.parameters()} == {torch.float32}
    ids = tokens(model, 40)
    with torch.no_grad():
        assert found.model(ids).dtype == torch.bfloat16
        y, state = found.model.prefill(ids[:, :20])
        y, state = found.model.step(ids[:, 20], state)
    assert relative_error(y, found.model(ids)[:, 20]) < 0.05


def test_a_filter_of_zeros_stays_one() -> None:
    model = make()
    with torch.no_grad():
        model.blocks[0].mixer.filter.layers[-1].weight.zero_()
    found = distill(model, tolerance=1e-2)
    assert not bool(found.layers[0].error.any())
    filter = operators(found.model)[0].filter
    assert_close(filter.skip, operators(model)[0].filter.skip, 1e-12)
    assert not bool(filter(20).any())


@pytest.mark.parametrize("options", [{"state": 4}, {"tolerance": 1e-3}])
def test_progress_runs_over_all_layers_and_within_them(options: dict[str, Any]) -> None:
    told: list[tuple[int, int]] = []
    distill(make(), progress=lambda n, of: told.append((n, of)), **options)
    done = [n for n, _ in told]
    assert {of for _, of in told} == {32}
    assert done == sorted(done)
    assert done[-1] == 32
    # a layer has 16 filters, which are fitted side by side
    assert len({n for n in done if 0 < n < 16}) >= 2
    assert len({n for n in done if 16 < n < 32}) >= 2


def test_the_figure_has_a_row_for_each_layer(tmp_path: Path) -> None:
    matplotlib_image = pytest.importorskip("matplotlib.image")
    heights = []
    for layers in (1, 2):
        found = distill(make(layers=layers), state=2)
        path = draw_distillation(found, tmp_path / "hankel.png", tolerance=0.1)
        heights.append(matplotlib_image.imread(path).shape[0])
    assert heights[1] > 1.6 * heights[0]


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ({"mixers": "attention"}, {}, "distill: the model has no Hyena layer"),
        (
            {"mixers": "hyena-se,hyena-li"},
            {},
            "distill: the model has no Hyena layer whose filters could become recurrences, so "
            "there is nothing to distil; it has hyena-se, hyena-li",
        ),
        ({}, {"tolerance": 0.0}, "distill: expected a tolerance above 0 or a state, got 0.0"),
        ({}, {"largest": 3}, "distill: expected an even largest state ≥ 2, got 3"),
        ({}, {"form": "sum"}, 'distill: expected form "modal" or "rational", got \'sum\''),
        ({}, {"length": 4}, "distill: expected a length of 5 lags or more, got 4"),
        ({}, {"state": 52}, "an order of 52 was asked for, but filters of 100 taps"),
    ],
)
def test_what_cannot_be(model: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        distill(make(**model), **options)


@torch.no_grad()
@pytest.mark.parametrize("order", [2, 3])
def test_layers_with_a_state_of_one_size_stay_as_they_are(order: int) -> None:
    model = make(
        order=order,
        layers=4,
        mixers="hyena,hyena-se,hyena-mr,hyena-li",
        striped=StripedConfig(groups=4, short_taps=3, medium_taps=9, modes=4),
    )
    found = distill(model, state=12)
    assert [layer.block for layer in found.layers] == [0]
    after = found.model.state_dict()
    for name, value in model.state_dict().items():
        if not name.startswith("blocks.0.mixer.filter."):
            assert torch.equal(after[name], value), name
    assert found.model.state_size(10) == found.model.state_size(1000)
    ids = tokens(model, 40)
    y, state = found.model.prefill(ids[:, :30])
    expected = found.model(ids)
    for t in range(30, 40):
        y, state = found.model.step(ids[:, t], state)
        assert_close(y, expected[:, t], 1e-10)


def test_a_folder_is_no_model() -> None:
    with pytest.raises(TypeError, match=r"^distill: expected a LanguageModel, got 'runs/mine'; "):
        distill("runs/mine")  # type: ignore[arg-type]


def test_ratios_of_polynomials_that_float32_cannot_hold() -> None:
    message = r"^distill: the filters as ratios of polynomials of degree 16 are too ill-conditioned"
    with pytest.raises(ValueError, match=message):
        distill(make(torch.float32, max_length=600), state=16, form="rational")


def test_more_lags_than_the_model_was_built_for() -> None:
    model = make(length_policy="extrapolate")
    found = distill(model, state=12, length=180)
    for layer, old, new in zip(found.layers, operators(model), operators(found.model), strict=True):
        with torch.no_grad():
            h, g = old.filter(180)[..., 1:], new.filter(180)[..., 1:]
        assert_close(layer.error, (g - h).norm(dim=-1) / h.norm(dim=-1), 1e-6)
    assert found.model.config.max_length == 100
    with pytest.raises(ValueError, match=r"^distill: 180 lags exceed max_length 100, where the f"):
        distill(make(), state=12, length=180)
    with pytest.raises(ValueError, match=r"^distill: 180 lags exceed max_length 100, and with"):
        distill(make(length_policy="interpolate"), state=12, length=180)


def test_what_is_no_model_has_no_logits() -> None:
    model = make()
    for models in ((-1, model), (model, None)):
        with pytest.raises(TypeError, match=r"^logit_error: expected a LanguageModel, got "):
            logit_error(*models, [torch.tensor([1, 2])])
