"""A run that begins with the weights of a saved model, and what it leaves as it is."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import MakeConfig, differing, tensors
from torch import nn

import hyena
from hyena.files.digests import sha256_of
from hyena.files.records import from_plain
from hyena.model import FilterConfig, LanguageModel, ModelConfig
from hyena.model.saved import find_model
from hyena.training import (
    OptimizerConfig,
    ParameterRule,
    ScheduleConfig,
    TrainConfig,
    list_checkpoints,
    parameter_groups,
    read_training_state,
    train,
)
from hyena.training.initial import freeze


def begun(make: MakeConfig, init: Path, out: str = "tuned", **changes: Any) -> TrainConfig:
    """A configuration that leaves the model to ``init`` but for ``model``, a dict."""
    model = ModelConfig(**changes.pop("model", {}))
    return replace(make(out, init=init, **changes), model=model)


FROZEN = ("embedding.", "blocks.0.")


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    return load_file(checkpoint / "model.safetensors")


@pytest.fixture
def base(make: MakeConfig) -> Path:
    """The folder of a finished run."""
    return train(make("base", model={"dropout": 0.1}, seed=7)).checkpoint.parents[1]


def test_it_begins_with_the_best_weights_of_a_run_and_a_new_optimizer(
    make: MakeConfig, base: Path
) -> None:
    config = begun(make, base, steps=1, schedule=ScheduleConfig(start_lr=0.0, min_lr=0.0))
    config.optimizer.lr = 1e-12
    tuned = train(config).checkpoint
    given, now = weights(find_model(base)), weights(tuned)
    assert given.keys() == now.keys()
    for name, value in given.items():
        torch.testing.assert_close(now[name], value, rtol=0, atol=1e-9)
    steps = {float(t) for name, t in tensors(tuned).items() if name.endswith(".step")}
    assert steps == {1.0}
    state = read_training_state(tuned)
    assert (state.step, state.config["init"]) == (1, str(base))
    assert state.initial == sha256_of(find_model(base) / "model.safetensors")
    assert state.config["model"]["width"] == hyena.load(tuned).config.width == 8


def test_a_run_whose_weights_were_drawn_has_no_digest_of_them(make: MakeConfig) -> None:
    assert read_training_state(train(make(steps=1)).checkpoint).initial is None


def test_other_data_length_and_settings(make: MakeConfig, base: Path, tmp_path: Path) -> None:
    from hyena.data import PrepareConfig, prepare

    (tmp_path / "text.txt").write_text("|".join(f"{i} quite another text" for i in range(30)))
    data = tmp_path / "other"
    prepare(PrepareConfig(source=str(tmp_path / "text.txt"), separator="|", out=data))
    changes = {"data": data, "length": 8, "batch": 2, "precision": "bf16-mixed", "seed": 3}
    result = train(begun(make, base, **changes))
    assert (result.step, read_training_state(result.checkpoint).tokens) == (6, 6 * 2 * 8)


def test_it_resumes_bit_for_bit_when_the_model_is_gone(make: MakeConfig, base: Path) -> None:
    changes: dict[str, Any] = {"model": {"dropout": 0.3}, "freeze": ["embedding.*"]}
    whole = train(begun(make, base, "whole", **changes))
    first = train(begun(make, base, "parts", stop_after=3, **changes))
    shutil.rmtree(base)
    train(begun(make, base, "parts", resume=True, stop_after=1, **changes))
    newest = list_checkpoints(first.checkpoint.parent)[-1]
    saved = from_plain(TrainConfig, read_training_state(newest).config)
    parts = train(replace(saved, resume=True, stop_after=None))
    assert (parts.step, differing(whole.checkpoint, parts.checkpoint)) == (6, [])
    states = [read_training_state(result.checkpoint) for result in (whole, parts)]
    assert states[0].initial == states[1].initial is not None


def test_another_model_to_begin_with_is_refused_when_it_resumes(
    make: MakeConfig, base: Path
) -> None:
    train(begun(make, base, stop_after=1))
    with pytest.raises(ValueError, match=r"another configuration: init was '.*base', is '.*other'"):
        train(begun(make, base.parent / "other", resume=True))
    with pytest.raises(ValueError, match=r"init was '.*base', is None"):
        train(make("tuned", resume=True))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            {"width": 16, "layers": 3},
            r"base.* is another one: model.width is 8 there, not 16, model.layers is 2 there, not "
            "3. Leave that out: only dropout, length_policy, block_causal may differ$",
        ),
        (
            {"max_length": 64},
            "model.max_length is 16 there, not 64. .*; for longer windows give length and model.le",
        ),
        ({"filter": FilterConfig(emb_dim=5)}, "model.filter.emb_dim is 33 there, not 5"),
    ],
)
def test_options_of_another_model_are_refused(
    make: MakeConfig, base: Path, model: dict[str, Any], message: str
) -> None:
    config = begun(make, base, model=model)
    with pytest.raises(ValueError, match=message) as caught:
        train(config)
    assert "\n" not in str(caught.value)
    assert not config.out.exists()


def test_the_options_that_it_has_already_may_be_given(make: MakeConfig, base: Path) -> None:
    same = make(init=base, steps=1, model={"dropout": 0.1})
    assert train(same).step == 1


def test_dropout_and_the_like_are_the_run_s_own_and_said(
    make: MakeConfig, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tuned = train(begun(make, base, steps=1, model={"length_policy": "extrapolate"})).checkpoint
    config = hyena.load(tuned).config
    assert (config.dropout, config.length_policy, config.width) == (0.0, "extrapolate", 8)
    said = "model.dropout is 0.0 here, 0.1 there; model.length_policy is extrapolate here, error"
    assert f"beginning with the weights of {base}: {said} there\n" in capsys.readouterr().err
    train(begun(make, base, "same", steps=1, model={"dropout": 0.1}))
    assert "beginning with" not in capsys.readouterr().err


def test_longer_windows_need_a_length_policy(make: MakeConfig, base: Path) -> None:
    message = "length is 32, but model.max_length is 16; lower length, or choose another model.len"
    with pytest.raises(ValueError, match=message):
        train(begun(make, base, length=32))
    for policy in ("extrapolate", "interpolate"):
        # Documents longer than max_length would each need a filter of their own.
        options = {"length": 32, "steps": 2, "model": {"length_policy": policy}}
        longer = begun(make, base, policy, cross_documents=True, **options)
        assert train(longer).step == 2


def test_another_tokenizer_is_refused(
    make: MakeConfig, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = SimpleNamespace(name="other", fingerprint="ab" * 32)
    monkeypatch.setattr("hyena.training.initial.load_tokenizer", lambda folder: other)
    message = (
        r"init: the model in .*step-\d+ was trained with tokenizer 'other' \(fingerprint abababab\)"
        r", but .* was made with 'bytes' \(\w{8}\); prepare the text with --tokenizer .*step-\d+$"
    )
    with pytest.raises(ValueError, match=message):
        train(begun(make, base))


def test_a_model_saved_by_itself_in_another_dtype(make: MakeConfig, tmp_path: Path) -> None:
    LanguageModel(make().model).double().save(tmp_path / "model")
    tuned = train(begun(make, tmp_path / "model", steps=1)).checkpoint
    assert {p.dtype for p in hyena.load(tuned).parameters()} == {torch.float32}
    wide = train(begun(make, tmp_path / "model", "wide", steps=1, precision="64")).checkpoint
    assert {p.dtype for p in hyena.load(wide).parameters()} == {torch.float64}


def test_a_model_that_is_not_there_is_refused(make: MakeConfig) -> None:
    with pytest.raises(FileNotFoundError, match="a model was asked for in nowhere, which does not"):
        train(make(init=Path("nowhere")))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_what_is_frozen_stays_and_has_no_moments(make: MakeConfig, checkpointing: bool) -> None:
    patterns = [f"{name}*" for name in FROZEN]
    changes = {"activation_checkpointing": checkpointing, "model": {"mixers": "hyena"}}
    base = train(make("base", steps=1, model={"mixers": "hyena"})).checkpoint
    tuned = train(make("tuned", init=base, freeze=patterns, **changes)).checkpoint
    before, after = weights(base), weights(tuned)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    trained = {n for n, _ in hyena.load(base).named_parameters() if not n.startswith(FROZEN)}
    assert moved == trained
    moments = load_file(tuned / "optimizer.safetensors")
    assert {name.rpartition(".")[0] for name in moments} == trained


def test_a_run_with_frozen_weights_resumes_bit_for_bit(make: MakeConfig) -> None:
    changes: dict[str, Any] = {"freeze": "*.mixer.*", "model": {"dropout": 0.2}}
    whole = train(make("whole", **changes))
    train(make("parts", stop_after=3, **changes))
    parts = train(make("parts", resume=True, **{**changes, "freeze": ["*.mixer.*"]}))
    assert differing(whole.checkpoint, parts.checkpoint) == []
    with pytest.raises(ValueError, match=r"freeze was \['\*\.mixer\.\*'\], is \[\]"):
        train(make("parts", resume=True, model={"dropout": 0.2}))


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["norm.*", "block.*"], r"freeze: 'block\.\*' matches no parameter; expected a pattern of"),
        (["embedding"], "'embedding' matches no parameter; .* whole names, as of blocks.0"),
        (["*"], r"freeze: nothing is left to train beside '\*'; leave some of them out"),
        (["[a-m]*", "[n-z]*"], r"nothing is left to train beside '\[a-m\]\*', '\[n-z\]\*'; leave"),
        ([3], r"freeze: expected patterns of parameters' names, got \[3\]"),
    ],
)
def test_patterns_that_cannot_be_meant_are_refused(
    make: MakeConfig, patterns: list[Any], message: str
) -> None:
    config = make(freeze=patterns)
    with pytest.raises(ValueError, match=message) as caught:
        train(config)
    assert "\n" not in str(caught.value)
    assert not config.out.exists()


def test_a_rule_for_what_is_frozen_is_refused(make: MakeConfig) -> None:
    config = make(freeze=["embedding.*"])
    config.optimizer.rules = [ParameterRule("embedding", lr=0.1)]
    with pytest.raises(ValueError, match="'embedding' matched no parameters"):
        train(config)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
        self.head.weight = self.embedding.weight
        self.norm = nn.LayerNorm(2)


@pytest.mark.parametrize("name", ["embedding", "head"])
def test_a_tied_weight_is_frozen_by_each_of_its_names(name: str) -> None:
    model = Tied()
    freeze(model, [f"{name}.*"])
    (group,) = parameter_groups(model, OptimizerConfig())
    assert group["names"] == ["norm.weight", "norm.bias"]
    with pytest.raises(ValueError, match="nothing is left to train"):
        freeze(Tied(), [f"{name}.*", "norm.*"])
