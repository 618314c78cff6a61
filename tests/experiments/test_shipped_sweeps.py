"""The shipped sweeps: every model of theirs trains, and in every way that they train one."""

import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from hyena.cli.options import parse
from hyena.cli.tasks.sweep import read_cell
from hyena.experiments import CellConfig, SweepConfig, make_plan, run_cell
from hyena.experiments.cell import plain
from hyena.files.records import from_plain
from hyena.mixers import SPECS
from hyena.model import ModelConfig
from hyena.training import OptimizerConfig

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs" / "tasks").glob("*.yaml"))


@cache
def plan_of(path: Path) -> list[tuple[str, CellConfig]]:
    """The first cell of each trial of each row at each point."""
    sweep = parse("tasks sweep", "run", SweepConfig, "config", [str(path)])
    assert sweep is not None
    return [(group.row, trial[0]) for group in make_plan(sweep, read_cell) for trial in group.cells]


def named(name: str) -> Path:
    (path,) = (path for path in CONFIGS if path.stem == name)
    return path


def small(cell: CellConfig, out: Path) -> CellConfig:
    """The same in small: a step of each stage, two at length 16, width 8."""
    filter = cell.model.filter
    if "hyena" in cell.model.mixers and filter.kind == "hyena":
        filter = replace(filter, width=8)
    model = replace(cell.model, width=8, filter=filter, mlp_width=8, head_dim=None)
    epochs = {} if cell.training.epochs is None else {"epochs": 1, "samples": 4}
    steps = None if epochs else 2
    training = replace(
        cell.training,
        steps=steps,
        length=None if cell.training.length is None else 12,
        stages=[replace(stage, steps=1) for stage in cell.training.stages],
        batch=2,
        evaluate_every=1,
        validation_sequences=2,
        test_sequences=2,
        **epochs,
    )
    sizes = {"addition": {"digits": 2}, "linear-functions": {"dimension": 1}}
    task = replace(cell.task, **sizes.get(cell.task.name, {"length": 16}))
    return replace(cell, out=out, model=model, training=training, task=task)


@pytest.fixture(scope="module")
def trained() -> set[str]:
    """What has been trained: trials and sweeps have much in common when they are so small."""
    return set()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_model_of_a_shipped_sweep_and_every_training_of_its_trials(
    path: Path, tmp_path: Path, trained: set[str]
) -> None:
    for number, (_, cell) in enumerate(plan_of(path)):
        tiny = small(cell, tmp_path / str(number))
        # Rules of the optimizer are for the parameters of a model, all else for any.
        training = replace(tiny.training, optimizer=OptimizerConfig(), protocol="")
        new = {str((tiny.model, tiny.training.optimizer)), str((tiny.task, training))}
        if new <= trained:
            continue
        trained |= new
        result = run_cell(tiny, say=lambda line: None).result
        assert result is not None
        assert result.steps == 2 + len(tiny.training.stages)


def test_the_quick_sweep_has_the_operators() -> None:
    plan = plan_of(named("recall-quick"))
    # Those of StripedHyena 2 are to stand beside one another, not alone.
    rivals = [name for name in SPECS if not name.startswith("hyena-")]
    assert sorted(cell.model.mixers for _, cell in plan) == sorted(2 * rivals)
    assert all(row.lower().replace(" ", "-") == cell.model.mixers for row, cell in plan)


def test_the_page_names_every_shipped_sweep() -> None:
    page = (ROOT / "docs" / "tasks.md").read_text()
    assert {path.name for path in CONFIGS} == set(re.findall(r"^\| `(\S+\.yaml)` \|", page, re.M))


def test_the_paper_s_protocol_is_its_table_a1() -> None:
    for _, cell in plan_of(named("recall-paper")):
        training, model = cell.training, cell.model
        assert training.protocol == "paper"
        assert (training.samples, training.epochs, training.batch) == (2000, 200, 32)
        assert (training.optimizer.lr, training.optimizer.weight_decay) == (5e-4, 0.1)
        assert training.optimizer.betas == (0.9, 0.98)
        assert training.own_steps(2050) == 12600
        assert training.warmup_steps * 20 == 12600  # 10 epochs of 200
        assert (training.schedule, training.test_sequences) == ("cosine", 500)
        assert (model.width, model.layers, model.dropout) == (64, 2, 0.0)


def settings(cell: dict[str, Any]) -> tuple[Any, ...]:
    """What a trial of recall-trials settles: the model, its learning rates and its few keys."""
    # As a model's, whose later fields an older record lacks: it had their defaults.
    model, training = from_plain(ModelConfig, cell["model"], "model"), cell["training"]
    first = training["stages"][0]
    return model, training["optimizer"], training.get("few_keys", "random"), first["keys"]


@pytest.mark.parametrize("name", ["recall-rivals", "recall-vocabularies", "recall-more-steps"])
def test_rivals_have_the_settings_that_the_recorded_trials_chose(name: str) -> None:
    (path,) = (ROOT / "benchmarks" / "results").glob("recall-trials_*/results.json")
    rows = dict(plan_of(named(name)))
    standings = json.loads(path.read_text())
    assert len(rows.keys() & {standing["row"] for standing in standings}) >= 4
    for standing in standings:
        if standing["row"] not in rows:
            continue
        own = plain(rows.pop(standing["row"]))
        tried = [settings(trial["config"]) for trial in standing["tried"]]
        reached = [trial["curve"][-1]["value"] for trial in standing["tried"]]
        candidates = list(range(len(tried)))
        if max(reached) < 0.3:  # none of them has learned the task: those with all keys at once
            candidates = [i for i in candidates if tried[i][-1] is None]
        best = max(candidates, key=lambda i: reached[i])
        assert tried.index(settings(own)) == best, standing["row"]
    assert set(rows) <= {"Conv1d"}
