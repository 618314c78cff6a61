"""The batches of a training."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_cells import cell

import hyena
from hyena.experiments import run_cell
from hyena.experiments.curriculum import (
    Stream,
    TrainingBatches,
    build_phases,
    generator,
    micro_batches,
)
from hyena.tasks import Batch


def same(one: Batch, other: Batch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_stages_come_before_the_task_s_own_length() -> None:
    config = cell(
        Path("x"), training={"stages": [(4, 2), (6, 3)], "batch": None, "tokens_per_step": 24}
    )
    phases = build_phases(config)
    found = [(phase.task.length, phase.sequences, phase.steps) for phase in phases]
    assert found == [(6, 4, 2), (8, 3, 3), (10, 2, 6)]
    batches = TrainingBatches(config, phases)
    shapes = [tuple(batches.batch(7, phase).inputs.shape) for phase in range(3)]
    assert shapes == [(4, 6), (3, 8), (2, 10)]


def test_the_last_phase_may_have_a_length_of_its_own(tmp_path: Path) -> None:
    config = cell(tmp_path, training={"stages": [(4, 2)], "length": 6})
    assert [phase.task.length for phase in build_phases(config)] == [6, 8]
    result = run_cell(config, say=lambda line: None).result
    assert result is not None
    assert {point["length"] for point in result.curve} == {6, 8}
    assert result.config["task"]["length"] == 8
    model = hyena.load(next(tmp_path.glob("checkpoints/*")))
    assert model.config.max_length == 10  # of the test


def test_a_stage_of_few_keys() -> None:
    config = cell(
        Path("x"), task={"vocab_size": 22}, training={"stages": [(60, 9, None, 2)], "batch": 50}
    )
    batches = TrainingBatches(config, build_phases(config))
    for keys, most in ((2, 2), (3, 3), (None, 10)):
        counts = [len(row[:60:2].unique()) for row in batches.batch(0, 0, keys).inputs]
        assert max(counts) == most


def test_a_stage_of_the_first_keys() -> None:
    training = {"stages": [(60, 9, None, 2)], "batch": 50, "few_keys": "first"}
    config = cell(Path("x"), task={"vocab_size": 22}, training=training)
    batches = TrainingBatches(config, build_phases(config))
    for keys, most in ((2, 2), (3, 3), (None, 10)):
        inputs = batches.batch(0, 0, keys).inputs
        assert len(inputs[:, :60:2].unique()) == len(inputs[:, 1:60:2].unique()) == most


@pytest.mark.parametrize(
    ("task", "stage", "message"),
    [
        (
            {"vocab_size": 22},
            (8, 9, None, 11),
            "training.stages: stage 1: keys is 11, but recall has 10 with this vocabulary; "
            "give at most 10, or a larger task.vocab_size",
        ),
        ({"name": "majority"}, (8, 9, None, 2), "training.stages: keys has no effect on majority"),
        ({}, (7, 9), "training.stages: stage 1: recall: length: expected"),
        ({"vocab_size": 22, "alphabet": 5}, (8, 9, None, 2), "leave out task.most_keys and task.a"),
        ({"vocab_size": 22, "most_keys": 5}, (8, 9, None, 2), "leave out task.most_keys and task."),
        (
            {"name": "addition", "length": 1024, "vocab_size": 30},
            (1024, 9),
            "no effect on addition",
        ),
    ],
)
def test_a_stage_that_the_task_cannot_have(
    task: dict[str, Any], stage: tuple[Any, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build_phases(cell(Path("x"), task=task, training={"stages": [stage]}))


def test_the_length_trained_at_that_the_task_cannot_have() -> None:
    with pytest.raises(ValueError, match=r"^training\.length: recall: length: expected"):
        build_phases(cell(Path("x"), training={"length": 7}))
    with pytest.raises(ValueError, match=r"^recall: vocab_size: expected"):
        build_phases(cell(Path("x"), task={"vocab_size": 3}, training={"length": 8}))


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    config = cell(Path("x"), seed=3)
    batches = TrainingBatches(config, build_phases(config))
    again = TrainingBatches(config, build_phases(config))
    assert same(batches.batch(4), again.batch(4))
    assert not same(batches.batch(4), batches.batch(5))
    other = cell(Path("x"), seed=4)
    assert not same(batches.batch(4), TrainingBatches(other, build_phases(other)).batch(4))


def test_samples_are_gone_through_once_an_epoch_in_a_new_order() -> None:
    config = cell(
        Path("x"),
        task={"length": 32, "vocab_size": 12},
        training={"samples": 10, "epochs": 2, "steps": None},
    )
    phases = build_phases(config)
    assert phases[0].steps == 6
    batches = TrainingBatches(config, phases)
    epochs = [
        torch.cat([batches.batch(step).inputs for step in range(first, first + 3)])
        for first in (0, 3)
    ]
    assert [len(batches.batch(step).inputs) for step in range(3)] == [4, 4, 2]
    assert not torch.equal(*epochs)
    one, two = (torch.unique(epoch, dim=0) for epoch in epochs)
    assert one.shape == (10, 34)
    assert torch.equal(one, two)


@pytest.mark.parametrize(("tokens", "sizes"), [(1, [1] * 5), (20, [2, 2, 1]), (1000, [5])])
def test_micro_batches_are_the_batch(tokens: int, sizes: list[int]) -> None:
    (phase,) = build_phases(cell(Path("x")))
    batch = phase.task.sample(5, torch.Generator(), "train")
    parts = micro_batches(batch, tokens)
    assert [len(part.inputs) for part in parts] == sizes
    assert same(Batch(*(torch.cat(c) for c in zip(*parts, strict=True))), batch)


def test_streams_and_indices_have_seeds_of_their_own() -> None:
    draws = [generator(s, stream, i) for s in (0, 1) for stream in Stream for i in (0, 1)]
    seeds = {draw.initial_seed() for draw in draws}
    assert len(seeds) == 4 * len(Stream)
    draws = [torch.rand(3, generator=generator(0, Stream.TEST, 2)) for _ in range(2)]
    assert torch.equal(*draws)
