"""The shipped sweeps: every row is a model that trains."""

from dataclasses import replace
from pathlib import Path

import pytest

from hyena.cli.options import parse
from hyena.cli.tasks.sweep import read_cell
from hyena.experiments import CellConfig, SweepConfig, make_plan, run_cell

CONFIGS = sorted((Path(__file__).parents[2] / "configs" / "tasks").glob("*.yaml"))


def plan_of(path: Path) -> list[tuple[str, CellConfig]]:
    """The first cell of each row at each point."""
    sweep = parse("tasks sweep", "run", SweepConfig, "config", [str(path)])
    assert sweep is not None
    return [(group.row, group.cells[0][0]) for group in make_plan(sweep, read_cell)]


def small(cell: CellConfig, out: Path) -> CellConfig:
    """The same in small: a step of each stage, two at length 16, width 8."""
    filter = replace(cell.model.filter, width=8)
    model = replace(cell.model, width=8, filter=filter, mlp_width=8, head_dim=None)
    epochs = {} if cell.training.epochs is None else {"epochs": 1, "samples": 4}
    steps = None if epochs else 2
    training = replace(
        cell.training,
        steps=steps,
        length=None,
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


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_row_of_a_shipped_sweep_trains(path: Path, tmp_path: Path) -> None:
    once = {(row, cell.task.name): cell for row, cell in plan_of(path)}
    for number, cell in enumerate(once.values()):
        result = run_cell(small(cell, tmp_path / str(number)), say=lambda line: None).result
        assert result is not None
        assert result.steps == 2 + len(cell.training.stages)


def test_the_quick_sweep_has_the_operators() -> None:
    (path,) = (path for path in CONFIGS if path.stem == "recall-quick")
    operators = ["hyena", "attention", "h3", "linear-attention", "s4d", "rwkv", "aft-conv", "gss"]
    plan = plan_of(path)
    assert [row.lower().replace(" ", "-") for row, _ in plan] == 2 * operators
    assert [cell.model.mixers for _, cell in plan] == 2 * operators


def test_the_paper_s_protocol_is_its_table_a1() -> None:
    (path,) = (path for path in CONFIGS if path.stem == "recall-paper")
    for _, cell in plan_of(path):
        training, model = cell.training, cell.model
        assert training.protocol == "paper"
        assert (training.samples, training.epochs, training.batch) == (2000, 200, 32)
        assert (training.optimizer.lr, training.optimizer.weight_decay) == (5e-4, 0.1)
        assert training.optimizer.betas == (0.9, 0.98)
        assert training.own_steps(2050) == 12600
        assert training.warmup_steps * 20 == 12600  # 10 epochs of 200
        assert (training.schedule, training.test_sequences) == ("cosine", 500)
        assert (model.width, model.layers, model.dropout) == (64, 2, 0.0)
