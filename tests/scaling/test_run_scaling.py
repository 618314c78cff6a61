"""A scaling sweep from its plan to its records, and what becomes of it when it is interrupted."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from small_sweeps import Here, small, timeless

from hyena.data import open_tokens, read_manifest
from hyena.evaluation import evaluate
from hyena.experiments import executors
from hyena.experiments.jobs import SweepEnd
from hyena.files.records import from_plain
from hyena.model import load
from hyena.scaling import Family, Result, ScalingConfig, Size, make_plan, read_results, run_scaling
from hyena.scaling import cell as cell_module
from hyena.scaling import run as run_module
from hyena.scaling.plan import read_plan
from hyena.scaling.record import choose
from hyena.training import list_checkpoints, loop, read_metrics


def run(config: ScalingConfig) -> tuple[SweepEnd, list[str]]:
    lines: list[str] = []
    return run_scaling(config, lines.append), lines


def by_family(results: list[Result], phase: str) -> dict[str, list[Result]]:
    found: dict[str, list[Result]] = {}
    for result in results:
        if result.phase == phase:
            found.setdefault(result.family, []).append(result)
    return found


def only_grid(data: Path, out: Path, **changes: Any) -> ScalingConfig:
    """One training."""
    fields = {"sizes": [Size(8, 1)], "tokens_per_parameter": [0.5], **changes}
    config = small(data, out, **fields)
    config.families = [Family("Hyena", config.families[0].settings)]
    return config


@pytest.mark.usefixtures("here")
def test_speeds_trials_and_the_grid_of_the_best(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(data, tmp_path, seeds=[0, 1])
    progress: list[tuple[int, int]] = []
    lines: list[str] = []
    end = run_scaling(config, lines.append, lambda *done: progress.append(done))
    assert end == SweepEnd(4 + 16, 0)
    assert progress[-1] == (16, 16)
    first = next(line for line in lines if line.startswith("[1/"))
    assert first.startswith("[1/4] speed of Hyena 8 x 1: ")
    assert any(line.startswith("| phase | family | size |") for line in lines)
    assert any(line.startswith("20 trainings: 0.0 h") for line in lines)
    results = read_results(tmp_path)
    assert len(results) == 20
    tuned, grid = by_family(results, "tune"), by_family(results, "grid")
    chosen = {name: choose(dict(enumerate(tried))) for name, tried in tuned.items()}
    assert read_plan(tmp_path).chosen == chosen
    for name, found in grid.items():
        assert {result.trial for result in found} == {chosen[name]}
        assert {(r.width, r.layers, r.seed) for r in found} == {
            (8, layers, seed) for layers in (1, 2) for seed in (0, 1)
        }
        assert f"{name}: trial {(chosen[name] or 0) + 1} of 2 is chosen, " in "\n".join(lines)
    assert all(result.test is None for tried in tuned.values() for result in tried)
    assert all(result.test is not None for found in grid.values() for result in found)

    # The next call finds all there: no speed is measured, and nothing trained.
    monkeypatch.setattr(executors, "start_job", None)
    again, lines = run(config)
    assert again == end
    assert "4 of 4 speeds were there already" in lines
    assert "16 of 16 cells were there already" in lines
    assert read_results(tmp_path) == results


@pytest.mark.usefixtures("here")
def test_a_family_may_take_the_trial_that_another_one_chose(data: Path, tmp_path: Path) -> None:
    families = small(data, tmp_path).families
    later = Family("order 3", {**families[0].settings, "model.order": 3}, trials_of="Hyena")
    config = small(data, tmp_path, families=[later, *families], tokens_per_parameter=[0.5])
    run(config)
    results = read_results(tmp_path)
    tuned, grid = by_family(results, "tune"), by_family(results, "grid")
    assert sorted(tuned) == ["Hyena", "attention"]
    assert {r.trial for r in grid["order 3"]} == {r.trial for r in grid["Hyena"]}
    chosen = read_plan(tmp_path).chosen
    assert chosen["order 3"] == chosen["Hyena"]
    assert all(r.settings["optimizer"]["lr"] == grid["Hyena"][0].settings["optimizer"]["lr"]
               for r in grid["order 3"])  # fmt: skip
    assert from_plain(ScalingConfig, read_plan(tmp_path).config) == config


@pytest.mark.usefixtures("here")
def test_a_record_says_what_was_trained_and_what_it_reached(data: Path, tmp_path: Path) -> None:
    config = only_grid(data, tmp_path)
    assert run(config)[0] == SweepEnd(1, 0)
    (result,) = read_results(tmp_path)
    (cell,) = make_plan(config, {})
    (checkpoint,) = list_checkpoints(cell.train.out / "checkpoints")
    model = load(checkpoint)
    assert (result.family, result.width, result.layers, result.seed) == ("Hyena", 8, 1, 0)
    assert (result.phase, result.trial, result.tokens_per_parameter) == ("grid", 0, 0.5)
    assert (result.tokens, result.steps) == (cell.tokens, cell.train.steps)
    assert result.parameters == model.parameter_count()
    assert result.parameters - result.parameters_outside_embedding == 264 * 8
    assert result.epochs == cell.tokens / read_manifest(data).splits["train"].tokens
    assert (result.precision, result.threads) == ("32", 1)
    assert result.settings["model"]["width"] == 8
    assert set(result.machine) == {"processor", "cores"}
    for split, bits in (("validation", result.validation), ("test", result.test)):
        documents = open_tokens(data, split).documents()
        found = evaluate(model, documents, length=16, stride=8, batch=4)
        assert bits is not None
        assert bits.bits_per_byte == found.bits_per_byte
        assert bits.nats_per_token == found.loss_nats_per_token
        assert (bits.tokens, bits.bytes, bits.documents) == (
            found.tokens,
            found.bytes,
            found.documents,
        )
    records = read_metrics(cell.train.out / "metrics.jsonl")
    assert len(records) == result.steps
    losses = [record["validation_loss"] for record in records if "validation_loss" in record]
    assert [point["loss"] for point in result.curve] == losses
    assert result.curve[-1]["step"] == result.steps
    assert result.curve[-1]["tokens"] == result.tokens
    assert result.curve[-1]["seconds"] == pytest.approx(result.seconds)
    assert result.seconds == pytest.approx(sum(64 / r["tokens_per_s"] for r in records))


@pytest.mark.usefixtures("here")
def test_the_plan_keeps_the_speeds(data: Path, tmp_path: Path) -> None:
    assert "1 training, 2 side by side: 0.0 h" in run(only_grid(data, tmp_path, jobs=2))[1]
    (speed,) = read_plan(tmp_path).speeds
    (result,) = read_results(tmp_path)
    assert (speed.family, speed.width, speed.layers) == (result.family, 8, result.layers)
    assert 0 < speed.tokens_per_second < float("inf")


@pytest.mark.usefixtures("here")
def test_a_plan_trains_nothing(data: Path, tmp_path: Path) -> None:
    end, lines = run(small(data, tmp_path, plan=True))
    assert end == SweepEnd(0, 0)
    assert lines[-1].startswith("12 trainings: ")
    assert not (tmp_path / "cells").exists()
    assert len(list((tmp_path / "speeds").iterdir())) == 4


@pytest.mark.usefixtures("here")
def test_what_does_not_fit_is_left_out_and_said(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        run_module,
        "hours_of",
        lambda cell, speed, manifest: 1.0 if cell.phase == "grid" else 0.0,
    )
    config = small(data, tmp_path, most_hours=4.0, most_epochs=1e-9)
    end, lines = run(config)
    assert end == SweepEnd(8, 0)  # with so little text both budgets are one
    assert {(result.layers, result.steps) for result in read_results(tmp_path)} == {(1, 1), (2, 1)}
    config = small(data, tmp_path / "other", most_hours=4.0)
    end, lines = run(config)
    assert end == SweepEnd(8, 0)
    sentence = "size 8 x 2 is left out: with it the whole takes 8.0 h, more than most_hours 4"
    assert sentence in lines
    assert read_plan(config.out).left_out == [sentence]
    assert {result.layers for result in read_results(config.out)} == {1}


@pytest.mark.usefixtures("here")
def test_budgets_that_the_text_cuts_are_said(data: Path, tmp_path: Path) -> None:
    lines = run(small(data, tmp_path, most_epochs=1e-9, plan=True))[1]
    assert "size 8 x 1: budgets are cut to 1e-09 epochs of the text" in lines
    lines = run(small(data, tmp_path / "other", plan=True))[1]
    assert not [line for line in lines if "budgets are cut" in line]


@pytest.mark.usefixtures("here")
def test_a_trial_that_fails_is_not_chosen_and_tried_again(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(small(data, tmp_path, plan=True))  # measures the speeds
    backward, broken = loop.backward, [True]

    def diverging(model: Any, step: Any, fabric: Any) -> Any:
        loss = backward(model, step, fabric)
        return loss * float("nan") if broken[0] else loss

    monkeypatch.setattr(loop, "backward", diverging)
    end, lines = run(small(data, tmp_path))
    assert end == SweepEnd(0, 4)
    assert "Hyena: no trial is finished, so there is none to go on with" in lines
    (line, *_) = [line for line in lines if "failed" in line]
    assert "[1/4] Hyena 8 x 1, 0.2 tokens a parameter, trial 1, seed 0: failed: loss is nan" in line
    assert line.endswith("/log.txt)")
    assert read_results(tmp_path) == []
    broken[0] = False
    assert run(small(data, tmp_path))[0] == SweepEnd(12, 0)


@pytest.mark.usefixtures("here")
def test_a_speed_that_cannot_be_measured_is_an_error(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: object) -> None:
        raise ValueError("no luck")

    monkeypatch.setattr(loop, "backward", fails)
    with pytest.raises(RuntimeError, match="the speed of Hyena at 8 x 1, which could not be meas"):
        run(small(data, tmp_path))


def test_the_folder_of_another_kind_is_refused(data: Path, tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text("{}")
    with pytest.raises(FileExistsError, match="is the folder of a sweep of `hyena tasks sweep`"):
        run(small(data, tmp_path))


class KilledError(BaseException):
    """The process is gone: what it has written stays."""


def dying(at: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function; its call of this number ends the process, before anything is done."""
    calls = 0

    def called(*arguments: Any, **keywords: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at:
            raise KilledError
        return function(*arguments, **keywords)

    return called


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("owner", "name", "at"),
    [
        (loop, "backward", 1),
        (loop, "backward", 5),
        (cell_module, "load", 1),
        (cell_module, "evaluate", 1),
        (cell_module, "evaluate", 2),
        (cell_module, "training_flops", 1),
        (cell_module, "write_result", 1),
    ],
)
def test_a_training_that_is_killed_goes_on_and_is_the_same(
    owner: Any, name: str, at: int, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, killed = only_grid(data, tmp_path / "whole"), only_grid(data, tmp_path / "killed")
    whole.base["checkpoint.every"] = killed.base["checkpoint.every"] = 3
    assert run(whole)[0] == SweepEnd(1, 0)
    killed.plan = True
    run(killed)
    killed.plan = False
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, dying(at, getattr(owner, name)))
        with pytest.raises(KilledError):
            run(killed)
    assert read_results(killed.out) == []
    assert run(killed)[0] == SweepEnd(1, 0)
    (one,), (other,) = read_results(whole.out), read_results(killed.out)
    assert timeless(one) == timeless(other)
    first, second = (
        load_file(next(config.out.glob("cells/*/run/checkpoints/step-*/model.safetensors")))
        for config in (whole, killed)
    )
    assert all(first[name].equal(second[name]) for name in first)


def test_a_signal_saves_the_running_training_and_the_next_call_goes_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = only_grid(data, tmp_path / "stopped", tokens_per_parameter=[20.0])
    whole = only_grid(data, tmp_path / "whole", tokens_per_parameter=[20.0])
    with monkeypatch.context() as patch:  # in this process, where nothing interrupts it
        patch.setattr(executors, "start_job", Here)
        assert run(whole)[0] == SweepEnd(1, 0)
        config.plan = True
        run(config)
        config.plan = False
    stopped: list[int] = []

    def progress(done: int, total: int) -> None:
        metrics = [*config.out.glob("cells/*/run/metrics.jsonl")]
        if not stopped and metrics and metrics[0].read_text().count("\n") >= 5:
            stopped.append(done)
            signal.raise_signal(signal.SIGINT)

    lines: list[str] = []
    end = run_scaling(config, lines.append, progress)
    assert end == SweepEnd(0, 0, signal.SIGINT)
    assert lines[-1] == "interrupted; the same command goes on from here"
    (saved,) = config.out.glob("cells/*/run/checkpoints/step-*")
    (cell,) = make_plan(config, {})
    assert int(saved.name.partition("-")[2]) < cell.train.steps
    assert run(config)[0] == SweepEnd(1, 0)
    assert "resuming from" in (cell.folder / "log.txt").read_text()
    (one,), (other,) = read_results(whole.out), read_results(config.out)
    assert timeless(one) == timeless(other)


@pytest.mark.usefixtures("here")
def test_the_grid_of_an_earlier_call_stays_while_trials_are_looked_through(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(data, tmp_path)
    run(config)
    before = json.loads((tmp_path / "scaling.json").read_text())
    run_jobs = run_module.run_jobs

    def stopped(*arguments: Any, **options: Any) -> SweepEnd:
        if "what" not in options:  # of the trials, after the speeds
            options["request"].signal = signal.SIGTERM
        return run_jobs(*arguments, **options)

    monkeypatch.setattr(run_module, "run_jobs", stopped)
    assert run(config)[0].signal == signal.SIGTERM
    assert json.loads((tmp_path / "scaling.json").read_text())["folders"] == before["folders"]
    assert len(read_results(tmp_path)) == 12
