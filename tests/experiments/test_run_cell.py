"""A cell from its first step to its record."""

import json
import math
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_cells import cell, differing, timeless, weights

import hyena
from hyena.cli.options import parse
from hyena.experiments import CellConfig, read_result, run, run_cell
from hyena.experiments.cell import plain
from hyena.experiments.curriculum import build_phases
from hyena.experiments.measure import held_out
from hyena.experiments.record import FAILED
from hyena.model import FilterConfig
from hyena.training import OptimizerConfig, ParameterRule, loop


def test_a_record_says_what_ran_and_how_it_went(tmp_path: Path) -> None:
    config = cell(tmp_path / "cell", threads=1)
    lines: list[str] = []
    steps: list[tuple[int, int]] = []
    end = run_cell(config, say=lines.append, progress=lambda *done: steps.append(done))
    result = end.result
    assert result is not None
    assert (end.step, end.steps, end.signal) == (6, 6, 0)
    assert result == read_result(config.out)
    assert result.config == plain(config)
    assert (result.steps, result.tokens, result.stopped) == (6, 6 * 4 * 10, "steps")
    assert result.threads == 1
    assert result.versions["torch"] == torch.__version__
    assert {"hyena", "python", "backend", "kernel"} <= result.versions.keys()
    assert result.machine["processor"]
    assert 0 < result.minutes <= result.total_minutes
    assert [point["step"] for point in result.curve] == [2, 4, 6]
    assert [point["tokens"] for point in result.curve] == [80, 160, 240]
    assert all(point["length"] == 10 and 0 < point["loss"] < 5 for point in result.curve)
    assert (result.test.measure, result.test.sequences) == ("accuracy", 8)
    assert steps == [(step, 6) for step in range(1, 7)]
    assert [line.split("  ")[0] for line in lines[:3]] == ["step 2/6", "step 4/6", "step 6/6"]
    assert lines[3].startswith("test on 8 sequences: accuracy ")
    _, _, _, *words = shlex.split(result.command)
    again = parse("tasks run", "train", CellConfig, None, words)
    assert plain(again) == result.config


def test_the_trained_model_is_a_model(tmp_path: Path) -> None:
    config = cell(tmp_path / "cell", training={"validation_sequences": 64})
    result = run_cell(config).result
    assert result is not None
    model = hyena.load(tmp_path / "cell" / "checkpoints" / "step-00000006")
    assert result.parameters == sum(p.numel() for p in model.parameters())
    task = build_phases(config)[-1].task
    (batch,) = held_out(task, 64, split="train", seed=0)
    with torch.no_grad():
        right = model(batch.inputs).argmax(2)[:, -1] == batch.targets[:, -1]
    assert result.curve[-1]["value"] == float(right.double().mean())


def test_a_finished_cell_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = cell(tmp_path / "cell")
    first = run_cell(config)
    monkeypatch.setattr(run, "build_model", None)
    assert run_cell(config).result == first.result
    with pytest.raises(ValueError, match=r"another cell: seed was 0, is 1"):
        run_cell(cell(tmp_path / "cell", seed=1))


def test_a_cell_that_is_finished_has_not_failed(tmp_path: Path) -> None:
    config = cell(tmp_path / "cell")
    for _ in ("when it is run", "when it is found"):
        config.out.mkdir(exist_ok=True)
        (config.out / FAILED).write_text("no luck\n")
        run_cell(config)
        assert not (config.out / FAILED).exists()


def test_the_seed_decides_everything(tmp_path: Path) -> None:
    one, same, other = (
        cell(tmp_path / name, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    results = [timeless(run_cell(config).result) for config in (one, same, other)]
    assert differing(one, same) == []
    assert results[0] == results[1]
    assert len(differing(one, other)) > 5


def test_micro_batches_do_not_change_what_is_learned(tmp_path: Path) -> None:
    one = cell(tmp_path / "one")
    parts = cell(tmp_path / "parts", training={"micro_tokens": 10})
    for config in (one, parts):
        run_cell(config)
    expected = weights(parts)
    for name, value in weights(one).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-5)


def test_stages_are_measured_at_their_length(tmp_path: Path) -> None:
    stages = {"stages": [(4, 3), (6, 2)], "steps": 2}
    result = run_cell(cell(tmp_path / "cell", training=stages)).result
    assert result is not None
    found = [(point["step"], point["length"]) for point in result.curve]
    assert found == [(2, 6), (3, 6), (4, 8), (5, 8), (6, 10), (7, 10)]
    assert result.steps == 7


def test_a_model_can_be_trained_at_shorter_lengths_only(tmp_path: Path) -> None:
    config = cell(
        tmp_path / "cell",
        task={"length": 32},
        model={"max_length": 10, "length_policy": "extrapolate"},
        training={"stages": [(8, 4)], "steps": 0},
    )
    result = run_cell(config).result
    assert result is not None
    assert [(point["step"], point["length"]) for point in result.curve] == [(2, 10), (4, 10)]
    assert (result.steps, result.stopped, result.test.sequences) == (4, "steps", 8)


def test_real_values_are_trained_and_measured_too(tmp_path: Path) -> None:
    task = {"name": "linear-functions", "dimension": 2, "length": 1024, "vocab_size": 30}
    config = cell(
        tmp_path / "cell", task=task, model={"mixers": "attention", "filter": FilterConfig()}
    )
    result = run_cell(config).result
    assert result is not None
    assert result.test.measure == "squared error"
    assert len(result.test.details["squared_error"]) == 5
    assert json.loads((config.out / "result.json").read_text())["test"]["value"] > 0
    with pytest.raises(ValueError, match=r"training\.stop_at is an accuracy, but linear-functions"):
        run_cell(cell(tmp_path / "other", task=task, training={"stop_at": 0.5}))


@pytest.mark.parametrize(
    "changes",
    [
        {"task": {"vocab_size": 4}},
        {"task": {"vocab_size": 4}, "training": {"length": 40}},
        {"task": {"vocab_size": 5, "length": 40}, "training": {"stages": [(2, 1)]}},
    ],
)
def test_too_few_prompts_are_found_before_training(changes: dict[str, Any], tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(ValueError, match="there are too few different prompts"):
        run_cell(cell(tmp_path, **changes), say=said.append)
    assert said == []


@pytest.mark.parametrize(
    "length", [{"stages": [(4, 2)], "steps": 20}, {"stages": [(4, 2), (6, 20)], "steps": 0}]
)
def test_the_accuracy_has_to_be_reached_twice_at_the_last_length(
    length: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter([0.9, 0.9, 0.5, 0.9, 0.95, 1.0])
    measure = run.measure

    def scripted(*arguments: Any, **options: Any) -> Any:
        found = measure(*arguments, **options)
        return run.Measurement(found.measure, next(values), (0.0, 1.0), found.sequences, {})

    monkeypatch.setattr(run, "measure", scripted)
    training = {"stop_at": 0.9, "evaluate_every": 1, **length}
    result = run_cell(cell(tmp_path / "cell", training=training)).result
    assert result is not None
    assert (result.stopped, result.steps) == ("accuracy", 5)  # not at 2, at the first length


def test_minutes_end_a_training_that_has_steps_left(tmp_path: Path) -> None:
    training = {"steps": 10_000_000, "minutes": 0.005, "evaluate_every": 1_000_000}
    result = run_cell(cell(tmp_path / "cell", training=training)).result
    assert result is not None
    assert (result.stopped, len(result.curve)) == ("minutes", 1)
    assert result.minutes >= 0.005


def test_weights_stay_as_they_were_before_a_step_that_diverges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backward = loop.backward

    def bad(*arguments: Any) -> torch.Tensor:
        bad.calls += 1
        loss = backward(*arguments)
        return loss * math.nan if bad.calls == 4 else loss

    bad.calls = 0
    monkeypatch.setattr(loop, "backward", bad)
    config = cell(tmp_path / "cell")
    lines: list[str] = []
    result = run_cell(config, say=lines.append).result
    assert result is not None
    assert (result.stopped, result.steps) == ("diverged", 3)
    assert "the loss or its gradient is not finite after step 3" in lines
    assert all(value.isfinite().all() for value in weights(config).values())


def test_what_does_not_fit_is_said_before_anything_is_written(tmp_path: Path) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"task": {"length": 7}}, "recall: length: expected an even number"),
        ({"model": {"max_length": 4}}, "model.max_length is 4, but sequences of recall are 10"),
        (
            {"training": {"optimizer": OptimizerConfig(rules=[ParameterRule("nothing")])}},
            "optimizer rule 'nothing' matched no parameters",
        ),
    ]
    for changes, message in wrong:
        with pytest.raises(ValueError, match=message):
            run_cell(cell(tmp_path / "cell", **changes))
    assert not (tmp_path / "cell").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "result.json is damaged"),
        ('{"format_version": 9}', "result.json has format version 9"),
        ('{"format_version": 1, "config": null}', "result.json is damaged"),
        ('{"format_version": 1, "config": {"task": {"size": 3}}}', "result.json is damaged"),
    ],
)
def test_a_damaged_record_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        run_cell(cell(tmp_path))


def test_a_changed_digit_of_a_record_is_found(tmp_path: Path) -> None:
    run_cell(cell(tmp_path))
    record = tmp_path / "result.json"
    record.write_text(record.read_text().replace('"steps": 6', '"steps": 7'))
    with pytest.raises(ValueError, match=r"result.json is damaged: its SHA-256 .* measure the ce"):
        read_result(tmp_path)
    record.unlink()  # as it says
    assert run_cell(cell(tmp_path)).result is not None
