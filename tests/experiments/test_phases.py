"""The batches of a training."""

from pathlib import Path

import pytest
import torch
from tiny_cells import cell

from hyena.experiments.phases import TrainingBatches, build_phases, micro_batches
from hyena.experiments.random_streams import Stream, generator, stream_seed
from hyena.tasks import Batch


def same(one: Batch, other: Batch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_stages_come_before_the_task_s_own_length() -> None:
    config = cell(
        Path("x"), training={"stages": [(4, 2), (6, 3)], "batch": None, "tokens_per_step": 24}
    )
    phases = build_phases(config)
    assert [(p.task.length, p.sequences, p.first, p.end) for p in phases] == [
        (6, 4, 0, 2),
        (8, 3, 2, 5),
        (10, 2, 5, 11),
    ]
    batches = TrainingBatches(config, phases)
    shapes = [tuple(batches.batch(step).inputs.shape) for step in (0, 1, 2, 4, 5, 10)]
    assert shapes == [(4, 6), (4, 6), (3, 8), (3, 8), (2, 10), (2, 10)]


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
    assert phases[0].end == 6
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
    seeds = {stream_seed(s, stream, i) for s in (0, 1) for stream in Stream for i in (0, 1)}
    assert len(seeds) == 4 * len(Stream)
    draws = [torch.rand(3, generator=generator(0, Stream.TEST, 2)) for _ in range(2)]
    assert torch.equal(*draws)
