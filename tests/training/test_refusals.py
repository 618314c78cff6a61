"""Configurations that cannot work get one line that says what to change."""

import builtins
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import MakeConfig

from hyena.data import PrepareConfig, prepare, read_manifest
from hyena.files.folder import locked
from hyena.files.records import from_plain, to_plain
from hyena.model import FilterConfig
from hyena.training import (
    CheckpointConfig,
    EvaluationConfig,
    OptimizerConfig,
    ParameterRule,
    ScheduleConfig,
    TrainConfig,
    read_metrics,
    train,
)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps: expected at least 1, got 0"),
        ({"steps": torch.tensor(2)}, r"steps: expected at least 1, got tensor\(2\)"),
        ({"clip": torch.tensor(1.0)}, r"clip: expected a positive number, got tensor\(1.\)"),
        ({"batch": 0}, "batch: expected at least 1, got 0"),
        ({"batch": 10**8}, "batch: expected at most 16,777,216, got 100000000"),
        ({"length": 0}, "length: expected at least 1, got 0"),
        ({"stop_after": 0}, "stop_after: expected at least 1, got 0"),
        ({"seed": -1}, r"seed: expected at least 0 and below 2\^64, got -1"),
        ({"clip": 0.0}, "clip: expected a positive number, got 0.0"),
        ({"clip": float("nan")}, "clip: expected a positive number, got nan"),
        ({"checkpoint": CheckpointConfig(keep=0)}, "checkpoint.keep: expected at least 1, got 0"),
        (
            {"evaluation": EvaluationConfig(every=-1)},
            "evaluation.every: expected at least 0, got -1",
        ),
        ({"schedule": ScheduleConfig(warmup_steps=7)}, "warmup_steps is 7, but the run has 6 st"),
        (
            {"schedule": ScheduleConfig(warmup_steps=5, steps=4)},
            "schedule.warmup_steps is 5, but the schedule has 4 steps; lower it or raise its steps",
        ),
        ({"schedule": ScheduleConfig(steps=0)}, "schedule.steps: expected at least 1, got 0"),
        (
            {"schedule": ScheduleConfig(min_lr=1.0)},
            "schedule.min_lr: expected 0 to the peak optimizer.lr 0.01, got 1; lower",
        ),
        (
            {"schedule": ScheduleConfig(start_lr=-1.0)},
            "start_lr: expected 0 to the peak optimizer.lr 0.01, got -1",
        ),
        ({"accumulate": 3}, "batch is 4, but has to be cut into devices .* = 3 equal"),
        ({"devices": 3}, "batch is 4, .* = 3 equal parts; use a multiple of 3"),
        ({"precision": "16"}, "precision: expected one of 32, 64, bf16-mixed, got '16'"),
        ({"accelerator": "tpu"}, "accelerator: expected one of auto, cpu, cuda, mps, got 'tpu'"),
        ({"model": {"vocab_size": 200}}, "vocab_size=200; set the model's vocab_size to 257"),
        (
            {"model": {"filter": FilterConfig(emb_dim=4)}},
            "model.filter.kind=hyena: expected an odd model.filter.emb_dim ≥ 3",
        ),
        (
            {"optimizer": OptimizerConfig(rules=[ParameterRule("nix", lr=0.1)])},
            "optimizer rule 'nix' matched no parameters; there are",
        ),
        ({"length": 17}, "length is 17, but model.max_length is 16; lower length, raise"),
        (
            {"model": {"max_length": 10_000}},
            "tokens to train on, too few for windows of 10,000; low",
        ),
        ({"seed": 2**64}, r"seed: expected at least 0 and below 2\^64, got 18446744073709551616"),
        ({"num_nodes": 2}, "num_nodes is 2, but nothing has started the processes on the other"),
        (
            {"optimizer": OptimizerConfig(weight_decay=-1.0)},
            "optimizer.weight_decay: expected 0 or a positive number, got -1.0",
        ),
        (
            {"optimizer": OptimizerConfig(filter_lr=float("nan"))},
            "optimizer.filter_lr: expected 0 or a positive number, got nan",
        ),
        (
            {"optimizer": OptimizerConfig(rules=[ParameterRule("norm", lr_scale=-2.0)])},
            r"optimizer.rules\[0\].lr_scale: expected 0 or a positive number, got -2.0",
        ),
        ({"data": Path("nowhere")}, "token files were asked for in nowhere"),
    ],
)
def test_a_bad_value_is_named(make: MakeConfig, changes: dict[str, Any], message: str) -> None:
    config = make(**changes)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        train(config)
    assert "\n" not in str(caught.value)
    assert not config.out.exists()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("lr", 0.0, "optimizer.lr: expected a positive number, got 0.0"),
        ("betas", (0.9, 1.0), r"optimizer.betas: expected both in \[0, 1\), got \(0.9, 1.0\)"),
        ("rules", [ParameterRule("nothing")], "optimizer rule 'nothing' matched no parameters"),
    ],
)
def test_a_bad_optimizer_is_named(make: MakeConfig, field: str, value: Any, message: str) -> None:
    config = make()
    setattr(config.optimizer, field, value)
    with pytest.raises(ValueError, match=message):
        train(config)


def test_a_run_that_never_began_can_be_started_again(make: MakeConfig) -> None:
    config = make()
    config.optimizer.rules = [ParameterRule("nothing")]
    with pytest.raises(ValueError, match="matched no parameters"):
        train(config)
    assert train(make()).step == 6


def test_a_folder_with_a_run_is_not_overwritten(make: MakeConfig) -> None:
    train(make(stop_after=1))
    with pytest.raises(FileExistsError, match="already holds a run; continue it with --resume"):
        train(make())


def test_an_absent_accelerator_is_refused(
    make: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    message = "accelerator cuda was asked for, but is not there; this machine has .*cpu"
    with pytest.raises(ValueError, match=message):
        train(make(accelerator="cuda"))
    assert not make().out.exists()


def test_two_runs_cannot_share_a_folder(make: MakeConfig) -> None:
    train(make(stop_after=2))
    config = make(resume=True)
    newest = config.out / "checkpoints" / "step-00000002"
    message = r"another run is using .*run; wait for it"
    with locked(config.out):
        (newest / "training.json").rename(newest / "moved")  # as if the other one were at work
        before = contents(config.out)
        with pytest.raises(RuntimeError, match=message):
            train(config)
        assert contents(config.out) == before
        (newest / "moved").rename(newest / "training.json")
    assert train(config).step == 6


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("sweep.json", "the folder of a sweep of `hyena tasks sweep`"),
        ("manifest.json", "a folder of token files of `hyena prepare`"),
        ("checkpoints/step-00000004/state.json", "the folder of a cell of `hyena tasks run`"),
        ("config.json", "the folder of a saved model"),
    ],
)
def test_a_folder_of_another_kind_is_left_alone(make: MakeConfig, file: str, kind: str) -> None:
    config = make(resume=True)
    (config.out / file).parent.mkdir(parents=True)
    (config.out / file).write_text("{}")
    (config.out / "mine.tmp").write_text("mine")
    before = contents(config.out)
    with pytest.raises(FileExistsError, match=f"run is {kind}, which this command does not write"):
        train(config)
    assert contents(config.out) == before


def test_somebody_s_own_checkpoints_are_not_called_removable(make: MakeConfig) -> None:
    config = make(resume=True)
    (config.out / "checkpoints" / "step-00000001").mkdir(parents=True)
    (config.out / "checkpoints" / "step-00000002").mkdir()
    with pytest.raises(FileNotFoundError, match=r"is no checkpoint of `hyena train`") as caught:
        train(config)
    assert "remove" not in str(caught.value)


def test_options_that_no_layer_reads_are_named_and_no_error(
    make: MakeConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make(steps=1)
    config.model.mixers, config.model.filter.kind = "attention", "s4d"
    config.model.order = 3
    train(config)
    note = "model.filter.kind, model.order have no effect on a model of attention\n"
    assert note in capsys.readouterr().err
    train(make(steps=1, out=config.out / "plain"))
    assert "no effect" not in capsys.readouterr().err


def test_a_validation_split_shorter_than_a_window_is_evaluated(
    make: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.txt").write_text("a|".join(["longer than any window of it"] * 9))
    out = tmp_path / "short"
    prepare(PrepareConfig(source=str(tmp_path / "text.txt"), separator="|", out=out, test=0))
    (tokens,) = (s.tokens for n, s in read_manifest(out).splits.items() if n == "validation")
    train(make(data=out, length=tokens, model={"max_length": 64}))
    assert f"has {tokens} tokens, fewer than a window of {tokens}; it is" in capsys.readouterr().err
    assert "validation_loss" in read_metrics(make().out / "metrics.jsonl")[-1]


def without(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the import of a package fail."""
    original: Callable[..., Any] = builtins.__import__

    def refuse(module: str, *arguments: Any, **keywords: Any) -> Any:
        if module == name or module.startswith(name + "."):
            raise ImportError(f"No module named {module!r}")
        return original(module, *arguments, **keywords)

    for module in [m for m in sys.modules if m == name or m.startswith(name + ".")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(builtins, "__import__", refuse)


@pytest.mark.parametrize(
    ("package", "changes", "message"),
    [
        ("lightning_fabric", {}, r"training needs lightning-fabric; pip install 'hyena\[train\]'"),
        ("yaml", {}, r"training needs PyYAML; pip install 'hyena\[train\]'"),
        (
            "tensorboard",
            {"tensorboard": True},
            "tensorboard was asked for, but T",
        ),
    ],
)
def test_a_missing_package_is_named(
    make: MakeConfig,
    monkeypatch: pytest.MonkeyPatch,
    package: str,
    changes: dict[str, Any],
    message: str,
) -> None:
    without(package, monkeypatch)
    with pytest.raises(ImportError, match=message):
        train(make(**changes))


def test_a_configuration_survives_being_written(make: MakeConfig) -> None:
    config = make(length=8, clip=None, model={"dropout": 0.1})
    config.optimizer.rules = [ParameterRule("norm", lr=1e-3), ParameterRule("skip", lr_scale=2.0)]
    assert from_plain(TrainConfig, to_plain(config)) == config


def test_an_unknown_field_is_refused(make: MakeConfig) -> None:
    plain = {**to_plain(make()), "stepz": 3}
    with pytest.raises(ValueError, match="TrainConfig has no field 'stepz'; it has data, out, mod"):
        from_plain(TrainConfig, plain)


def test_data_without_a_validation_split_says_how_to_train(make: MakeConfig, data: Path) -> None:
    texts = data.parent / "texts"
    out = data.parent / "train only"
    prepare(PrepareConfig(source=str(texts), out=out, validation=0, test=0))
    with pytest.raises(ValueError, match=r"no validation split .* --evaluation\.every 0"):
        train(make(data=out))
    train(make(data=out, evaluation=EvaluationConfig(every=0)))
