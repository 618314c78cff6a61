"""The rows of each step."""

from collections import Counter

import numpy as np
import pytest

from hyena.finetuning.batches import RowOrder


@pytest.mark.parametrize(("rows", "batch"), [(1, 1), (1, 3), (7, 2), (10, 10), (100, 3), (5, 7)])
def test_an_epoch_has_every_row_and_as_few_again_as_can_be(rows: int, batch: int) -> None:
    lengths = np.random.default_rng(0).integers(1, 50, rows)
    order = RowOrder(lengths, batch, seed=3)
    steps = -(-rows // batch)
    for epoch in range(3):
        read = Counter(
            int(row) for step in range(steps) for row in order.rows(epoch * steps + step)
        )
        assert set(read) == set(range(rows))
        assert sum(read.values()) == steps * batch
        assert max(read.values()) - min(read.values()) <= 1


def test_the_order_is_a_function_of_seed_and_step() -> None:
    lengths = np.random.default_rng(0).integers(1, 50, 100)
    order, again = RowOrder(lengths, 4, seed=1), RowOrder(lengths, 4, seed=1)
    forward = [order.rows(step).tolist() for step in range(60)]
    backward = [again.rows(step).tolist() for step in reversed(range(60))][::-1]
    assert forward == backward
    assert forward != [RowOrder(lengths, 4, seed=2).rows(step).tolist() for step in range(60)]
    assert forward[:25] != forward[25:50]  # another epoch
    assert len(RowOrder(lengths, 4, seed=2**64 - 1).rows(0)) == 4


def test_rows_of_a_batch_are_of_similar_lengths() -> None:
    lengths = np.random.default_rng(0).integers(1, 1000, 640)
    order = RowOrder(lengths, 8, seed=0)
    batches = [lengths[order.rows(step)] for step in range(80)]
    assert all((np.diff(batch) >= 0).all() for batch in batches)
    assert np.mean([batch.max() - batch.min() for batch in batches]) < 100
    firsts = [int(batch[0]) for batch in batches]
    assert firsts[:16] != sorted(firsts[:16])  # not from short to long
