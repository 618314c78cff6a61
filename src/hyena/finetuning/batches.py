"""Which rows each step of a training reads.

Sizes: B rows, N rows of the training file.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_TOGETHER = 16  # batches whose rows are sorted by length


class RowOrder:
    """The rows of each step: a function of seed and step alone.

    An epoch has all rows in random order, and where they do not fill its last batch, some of them
    again. Those of some batches at a time are sorted by length, so that little is padded, and the
    batches of an epoch are read in random order.

    Args:
        lengths: (N,), of all rows.
        batch: B.
        seed: of the order.
    """

    def __init__(self, lengths: NDArray[np.int64], batch: int, seed: int) -> None:
        self._lengths, self._batch, self._seed = lengths, batch, seed
        self._steps = -(-len(lengths) // batch)  # of an epoch
        self._drawn: tuple[int, NDArray[np.int64]] | None = None  # an epoch, and its batches

    def rows(self, step: int) -> NDArray[np.int64]:
        """The rows of the update that follows ``step`` finished ones, (B,), by length."""
        epoch, place = divmod(step, self._steps)
        if self._drawn is None or self._drawn[0] != epoch:
            self._drawn = epoch, self._epoch(epoch)
        found: NDArray[np.int64] = self._drawn[1][place]
        return found

    def _epoch(self, number: int) -> NDArray[np.int64]:
        """The batches of an epoch, (steps, B)."""
        draw, count = np.random.default_rng([self._seed, number]), self._steps * self._batch
        times = -(-count // len(self._lengths))
        rows = np.concatenate([draw.permutation(len(self._lengths)) for _ in range(times)])[:count]
        size = _TOGETHER * self._batch
        parts = [rows[start : start + size] for start in range(0, count, size)]
        by_length = [part[np.argsort(self._lengths[part], kind="stable")] for part in parts]
        batches = np.concatenate(by_length).reshape(self._steps, self._batch)
        return batches[draw.permutation(self._steps)]
