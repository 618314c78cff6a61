"""Every mixer and every filter that a configuration can name makes a whole language model."""

from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from comparison import assert_close
from small_models import gradients, small_config, small_model, tokens
from states import numbers_held

import hyena
from hyena.cli import main
from hyena.filters import LongFilter
from hyena.generation import load_state, save_state
from hyena.mixers import SPECS
from hyena.model import FilterConfig, LanguageModel, ModelConfig
from hyena.model.config import FilterKind, SSMConfig
from hyena.training import OptimizerConfig, adamw, parameter_groups

KINDS = [kind for kind in get_args(FilterKind) if kind != "hyena"]
NAMES = [*SPECS, *(f"hyena, {kind} filters" for kind in KINDS)]
PATTERNS = [*NAMES, "s4d,hyena,rwkv", "attention,gss,aft-conv"]
SIZES: dict[str, Any] = {"ssm": SSMConfig(state=6), "local_width": 5}


@pytest.fixture(params=PATTERNS)
def options(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What `small_model` is to be told."""
    name = request.param
    if not name.endswith(" filters"):
        return {"mixers": name, **SIZES}
    kind: Any = name.removeprefix("hyena, ").removesuffix(" filters")
    filter = FilterConfig(kind=kind, taps=7, modes=5, degree=4)
    return {"mixers": "hyena", "filter": filter, **SIZES}


def test_a_training_step_reaches_every_parameter(options: dict[str, Any]) -> None:
    model, ids = small_model(**options).train(), tokens(2, 24)

    def loss() -> torch.Tensor:
        logits = model(ids[:, :-1])
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())

    optimizer = adamw(model, OptimizerConfig(lr=1e-3))
    before = loss()
    before.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
        assert bool(parameter.grad.any()), name
    optimizer.step()
    assert float(loss().detach()) < float(before.detach())


def test_poles_and_taps_are_trained_as_filters_are(options: dict[str, Any]) -> None:
    model = small_model(**options)
    config = OptimizerConfig(lr=1e-3, filter_lr=1e-4)
    groups = parameter_groups(model, config)
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    for group in groups:
        for name in group["names"]:
            if ".filter.taps." in name:
                assert (group["peak_lr"], group["weight_decay"]) == (1e-4, 0.0), name
            elif name.endswith(".skip"):
                assert group["weight_decay"] == 0, name


@torch.no_grad()
def test_prefill_and_steps_are_the_forward_pass(options: dict[str, Any]) -> None:
    model, ids = small_model(**options), tokens(2, 24)
    expected = model(ids)
    for known in (1, 7):
        logits, state = model.prefill(ids[:, :known])
        outputs = [logits]
        for t in range(known, 24):
            logits, state = model.step(ids[:, t], state)
            outputs.append(logits[:, None])
        assert_close(torch.cat(outputs, dim=1), expected, 1e-9)


@torch.no_grad()
def test_padded_and_packed(options: dict[str, Any]) -> None:
    model, ids = small_model(**options), tokens(1, 24)
    alone = model(ids[:, 9:])
    mask = torch.arange(24)[None] >= 9
    assert_close(model(ids, mask=mask)[:, 9:], alone, 1e-9)
    assert_close(model(ids, document_ids=mask.long())[:, 9:], alone, 1e-9)


def test_generation(options: dict[str, Any]) -> None:
    model = small_model(**options)
    together = model.generate([[3, 4, 5], [7]], max_new_tokens=5, temperature=0)
    apart = [model.generate([p], max_new_tokens=5, temperature=0)[0] for p in ([3, 4, 5], [7])]
    assert [g.tokens for g in together] == [g.tokens for g in apart]


@pytest.mark.cpu
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@torch.no_grad()
def test_saved_and_loaded(options: dict[str, Any], dtype: torch.dtype, tmp_path: Path) -> None:
    model, ids = small_model(dtype=dtype, **options), tokens(2, 9)
    model.save(tmp_path)
    loaded = hyena.load(tmp_path)
    assert loaded.config == model.config
    assert torch.equal(model(ids), loaded(ids))


@pytest.mark.cpu
@torch.no_grad()
def test_a_saved_state_goes_on(options: dict[str, Any], tmp_path: Path) -> None:
    model, ids = small_model(**options), tokens(2, 9)
    _, state = model.prefill(ids)
    save_state(state, tmp_path / "state")
    expected, _ = model.step(ids[:, 0], state)
    found, _ = model.step(ids[:, 0], load_state(tmp_path / "state"))
    assert torch.equal(found, expected)


@torch.no_grad()
def test_the_state_has_the_stated_size(options: dict[str, Any]) -> None:
    model = small_model(**options)
    _, state = model.prefill(tokens(1, 7))
    assert sum(map(numbers_held, state.layers)) == model.state_size(7)


def test_weights_are_a_function_of_the_generator_alone(options: dict[str, Any]) -> None:
    config = small_config(**options)
    built = []
    for ambient in (1, 2):
        torch.manual_seed(ambient)
        built.append(LanguageModel(config, generator=torch.Generator().manual_seed(0)))
    for (name, a), b in zip(built[0].named_parameters(), built[1].parameters(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.cpu
def test_under_autocast(options: dict[str, Any]) -> None:
    model, ids = small_model(dtype=torch.float32, **options).train(), tokens(2, 24)
    expected = model(ids)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(ids)
    assert_close(logits.float(), expected, 0.1)  # the weights are far larger than initial ones
    logits.float().square().sum().backward()
    assert all(bool(g.isfinite().all()) for g in gradients(model).values())


@pytest.mark.cpu
def test_info_describes_it(
    options: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = small_model(dtype=torch.float32, **options)
    model.save(tmp_path)
    assert main(["info", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert f"{model.parameter_count():,}" in out
    state_spaces = {"s4d", "gss", "h3", "mamba2"} & set(model.config.layer_mixers())
    assert ("ssm.state " in out) == bool(state_spaces or model.config.filter.kind == "s4d")
    for mixer in model.config.layer_mixers():
        assert f"{mixer} block, of " in out
    rivals = set(model.config.layer_mixers()) - {"hyena", "attention"}
    assert ("no formula for other mixers" in out) == bool(rivals)


@pytest.mark.cpu
def test_info_knows_learned_positions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_model("attention", torch.float32, positions="learned").save(tmp_path)
    assert main(["info", str(tmp_path)]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[:2] for row in rows if row[:1] == ["positions"]] == [
        ["positions", "learned"],
        ["positions", "288"],
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_the_policy_of_other_filters(kind: Any) -> None:
    filter = FilterConfig(kind=kind, taps=7, modes=5, degree=4)
    free = small_model(filter=filter, length_policy="extrapolate", **SIZES)
    assert all(isinstance(block.mixer.filter, LongFilter) for block in free.blocks)
    ids = tokens(1, 40)
    with torch.no_grad():
        assert_close(free(ids)[:, :24], free(ids[:, :24]), 1e-9)
    with pytest.raises(ValueError, match="interpolate is of hyena filters, but model"):
        LanguageModel(small_config(filter=filter, length_policy="interpolate"))


def test_more_modes_than_the_length_has() -> None:
    config = ModelConfig(max_length=24, layers=1, filter=FilterConfig(kind="fourier"))
    with pytest.raises(ValueError, match=r"24 has 13 model\.filter\.modes, but 64 were"):
        LanguageModel(config)
