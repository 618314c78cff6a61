"""A cell, its model's sizes, and the command line that runs it again."""

import shlex
from pathlib import Path

import pytest
from tiny_cells import cell

from hyena.cli.options import parse
from hyena.experiments import CellConfig, TaskTraining
from hyena.experiments.cell import check_same_cell, command, model_config, plain
from hyena.experiments.curriculum import build_phases
from hyena.files.records import from_plain
from hyena.model import FilterConfig, ModelConfig
from hyena.tasks import TaskConfig, build_task
from hyena.training import OptimizerConfig, ParameterRule


def test_the_model_s_sizes_are_the_task_s() -> None:
    config = cell(Path("x"), task={"length": 8}, training={"stages": [(16, 1)]})
    tasks = [phase.task for phase in build_phases(config)]
    model = model_config(config, tasks)
    assert (model.vocab_size, model.max_length) == (6, 18)  # of the longest stage
    assert model_config(config, tasks[1:]).max_length == 10


def test_a_shorter_filter_needs_a_policy() -> None:
    tasks = [build_task(TaskConfig(length=8, vocab_size=6))]
    short = {"max_length": 4, "length_policy": "extrapolate"}
    assert model_config(cell(Path("x"), model=short), tasks).max_length == 4
    assert model_config(cell(Path("x"), model={"max_length": 40}), tasks).max_length == 40
    with pytest.raises(ValueError, match=r"max_length is 4, but sequences of recall are 10 tokens"):
        model_config(cell(Path("x"), model={"max_length": 4}), tasks)
    with pytest.raises(ValueError, match=r"model.vocab_size is 7, but recall has 6 tokens"):
        model_config(cell(Path("x"), model={"vocab_size": 7}), tasks)


@pytest.mark.parametrize(("name", "value"), [("seed", -1), ("seed", 2**64), ("threads", 0)])
def test_wrong_fields_are_named(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected at least .*, got {value}"):
        CellConfig(Path("x"), **{name: value})  # type: ignore[arg-type]


def elaborate() -> CellConfig:
    """A cell with fields of every type away from their defaults."""
    optimizer = OptimizerConfig(
        lr=1e-3, betas=(0.9, 0.999), rules=[ParameterRule("skip$", lr_scale=0.5)]
    )
    training = TaskTraining(
        protocol="a b's",
        steps=None,
        epochs=3,
        samples=10,
        clip=None,
        optimizer=optimizer,
        schedule="linear",
    )
    model = ModelConfig(
        vocab_size=1, max_length=1, mixers="hyena,h3", filter=FilterConfig(window=False)
    )
    return CellConfig(Path("a b"), TaskConfig("counting", 32), model, training, 5, 2)


@pytest.mark.parametrize(
    "config",
    [
        CellConfig(Path("x")),
        elaborate(),
        cell(Path("x"), training={"stages": [(4, 10), (6, 10)], "steps": 0}),
    ],
    ids=["defaults", "elaborate", "stages"],
)
def test_the_command_line_gives_the_same_cell(config: CellConfig) -> None:
    hyena, tasks, run, *words = shlex.split(command(config))
    assert (hyena, tasks, run) == ("hyena", "tasks", "run")
    read = parse("tasks run", "train", CellConfig, None, words)
    assert plain(read) == plain(config)
    assert from_plain(CellConfig, plain(config)) == config


def test_only_what_decides_the_weights_tells_cells_apart() -> None:
    before = plain(cell(Path("x")))
    check_same_cell(before, cell(Path("y"), threads=3))
    with pytest.raises(ValueError, match=r"^x holds another cell: training.steps was 6, is 7\. "):
        check_same_cell(before, cell(Path("x"), training={"checkpoint_minutes": 1.0, "steps": 7}))


def test_a_field_that_an_older_record_lacks_was_at_its_default() -> None:
    before = plain(cell(Path("x")))
    del before["training"]["stop_at"]
    check_same_cell(before, cell(Path("x")))
    with pytest.raises(ValueError, match=r"another cell: training.stop_at was None, is 0.5\. Use"):
        check_same_cell(before, cell(Path("x"), training={"stop_at": 0.5}))
