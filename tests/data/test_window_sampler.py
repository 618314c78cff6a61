from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from hyena.data import WindowSampler


class Stream(NamedTuple):
    tokens: NDArray
    document_starts: NDArray


def stream(n, starts=(0,)):
    """Tokens that are their own position, so that a window shows where it was cut."""
    return Stream(np.arange(n, dtype=np.uint16), np.asarray(starts, dtype=np.int64))


@given(st.integers(1, 12), st.integers(0, 60), st.integers(0, 3))
def test_an_epoch_visits_windows_that_do_not_overlap_each_once(length, more, seed):
    n = length + 1 + more
    sampler = WindowSampler(stream(n), length, batch=1, seed=seed)
    count = sampler.windows_per_epoch
    first = [int(sampler.batch(step).inputs[0, 0]) for step in range(count)]
    gaps = np.diff(sorted(first))
    assert (gaps == length).all()
    assert min(first) >= 0
    assert max(first) + length + 1 <= n
    # No more than a window at each end is left out, so at least (windows that fit) - 1 are used.
    assert count >= max((n - 1) // length - 1, 1)


def test_targets_are_the_next_tokens():
    batch = WindowSampler(stream(100), 7, batch=5, seed=0).batch(3)
    assert torch.equal(batch.targets, batch.inputs + 1)
    assert torch.equal(batch.inputs, batch.inputs[:, :1] + torch.arange(7))
    for part in batch:
        assert part.shape == (5, 7)
        assert part.dtype == torch.int64
        assert part.is_contiguous()


def test_a_batch_depends_on_seed_and_step_only():
    def batch(seed, step):
        return WindowSampler(stream(500), 10, batch=4, seed=seed).batch(step).inputs

    used = WindowSampler(stream(500), 10, batch=4, seed=1)
    for step in (7, 40, 0, 7, 999, 3):  # in any order, in any epoch
        assert torch.equal(used.batch(step).inputs, batch(1, step))
    assert not torch.equal(batch(1, 7), batch(2, 7))
    assert not torch.equal(batch(1, 7), batch(1, 8))


def test_batches_straddle_epochs_without_a_gap():
    sampler = WindowSampler(stream(101), 10, batch=4, seed=0)
    assert sampler.windows_per_epoch == 9
    rows = torch.cat([sampler.batch(step).inputs[:, 0] for step in range(9)]).numpy()
    for epoch in rows.reshape(4, 9):
        assert (np.diff(np.sort(epoch)) == 10).all()


def test_offset_and_order_change_from_epoch_to_epoch():
    sampler = WindowSampler(stream(1001), 10, batch=99, seed=0)
    epochs = [sampler.batch(epoch).inputs[:, 0].numpy() for epoch in range(20)]
    assert len({int(epoch[0] % 10) for epoch in epochs}) > 4
    orders = {tuple(np.argsort(epoch)) for epoch in epochs}
    assert len(orders) == 20
    assert len(set(np.concatenate(epochs).tolist())) > 500


@pytest.mark.parametrize("world", [1, 2, 3, 6])
def test_the_ranks_together_give_the_global_batch_in_order(world):
    whole = WindowSampler(stream(300, [0, 50, 51, 170]), 9, batch=6, seed=4)
    for step in (0, 5, 17):
        ranks = [
            WindowSampler(stream(300, [0, 50, 51, 170]), 9, batch=6, seed=4).batch(
                step, rank=rank, world=world
            )
            for rank in range(world)
        ]
        for expected, parts in zip(whole.batch(step), zip(*ranks, strict=True), strict=True):
            assert torch.equal(torch.cat(parts), expected)


@given(st.sets(st.integers(1, 58)), st.integers(1, 20), st.integers(0, 5))
def test_document_ids_tell_the_documents_of_a_row_apart(inner, length, step):
    starts = [0, *sorted(inner)]
    batch = WindowSampler(stream(60, starts), length, batch=3, seed=0).batch(step)
    for row, ids in zip(batch.inputs.numpy(), batch.document_ids.numpy(), strict=True):
        document = np.searchsorted(starts, row, side="right") - 1
        assert (ids == document - document[0]).all()


def test_documents_may_be_crossed():
    texts = stream(60, [0, 3, 6, 9, 30])
    crossed = WindowSampler(texts, 12, batch=3, seed=0, cross_documents=True).batch(2)
    kept = WindowSampler(texts, 12, batch=3, seed=0).batch(2)
    assert torch.equal(crossed.inputs, kept.inputs)
    assert not crossed.document_ids.any()
    assert crossed.document_ids.shape == (3, 12)


def test_the_smallest_stream():
    batch = WindowSampler(stream(2), 1, batch=2, seed=0).batch(10)
    assert batch.inputs.tolist() == [[0], [0]]
    assert batch.targets.tolist() == [[1], [1]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"length": 10}, "windows of length 10 need 11 tokens, but the text has 10"),
        ({"length": 0}, "length: expected at least 1, got 0"),
        ({"batch": 0}, "batch: expected at least 1, got 0"),
        ({"batch": 2**32}, "batch: expected at most 16777216, got 4294967296"),
        ({"seed": -1}, "seed: expected at least 0, got -1"),
        ({"seed": 2**63}, "seed: expected at most 9223372036854775807, got 9223372036854775808"),
        ({"seed": torch.zeros(2)}, r"seed: expected a whole number, got tensor\(\[0., 0.\]\)"),
    ],
)
def test_bad_settings_of_the_sampler(arguments, message):
    with pytest.raises(ValueError, match=message):
        WindowSampler(stream(10), **{"length": 3, "batch": 2, "seed": 0, **arguments})


def test_bad_batches():
    sampler = WindowSampler(stream(10), 3, batch=4, seed=0)
    with pytest.raises(ValueError, match="batch of 4 windows cannot be divided among 3 ranks"):
        sampler.batch(0, rank=0, world=3)
    with pytest.raises(ValueError, match="got rank 2 and world 2"):
        sampler.batch(0, rank=2, world=2)
    with pytest.raises(ValueError, match="step: expected at least 0, got -1"):
        sampler.batch(-1)


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int64, torch.tensor])
def test_sizes_may_be_of_numpy_and_pytorch(kind):
    expected = WindowSampler(stream(2000), 100, batch=4, seed=3).batch(60, 1, 2)
    sampler = WindowSampler(stream(2000), kind(100), batch=kind(4), seed=kind(3))
    assert [type(x) for x in (sampler.length, sampler.batch_size, sampler.seed)] == [int] * 3
    for found, known in zip(sampler.batch(kind(60), kind(1), kind(2)), expected, strict=True):
        assert torch.equal(found, known)
