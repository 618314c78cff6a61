"""Training windows: each batch a pure function of (seed, step, rank, world)."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyena.arguments import IGNORE, check_whole, plural, shown

from .token_file import TokenFile

if TYPE_CHECKING:
    from torch import Tensor

# B batch, L length of a window.

MOST_WINDOWS = 1 << 24  # of a batch: beyond what memory holds


class Windows(NamedTuple):
    """One batch.

    Attributes:
        inputs: (B, L) int64.
        targets: the next token of each input, (B, L) int64; `hyena.arguments.IGNORE` where it is
            masked.
        document_ids: the document of each input, (B, L) int64, counted from 0 in each row.
    """

    inputs: Tensor
    targets: Tensor
    document_ids: Tensor


class WindowSampler:
    """Draws windows of a token stream without keeping any state, so resuming needs only the step.

    An epoch cuts the stream, from a random offset on, into windows of ``length`` inputs that do
    not overlap, and visits them in a random order, each once; offset and order depend on the seed
    and the epoch. Every epoch has the same number of windows: those that fit at any offset. Less
    than one window of text at each end of the stream is left out, other text each epoch. Batches
    may straddle epochs. Of a window whose targets are all masked the last one stays, so that every
    batch has a loss.

    Args:
        tokens: the stream, a `TokenFile` or what has its ``tokens`` and ``document_starts``, and
            ``masked`` if something is.
        length: inputs of a window, 1 or more.
        batch: windows of a batch over all ranks, 1 to 2^24.
        seed: 0 or more.
        cross_documents: whether a token may see earlier documents of its window; if so,
            document_ids are all 0.

    Raises: ValueError if an argument is out of range or the stream is shorter than a window.
    """

    def __init__(
        self,
        tokens: TokenFile,
        length: int,
        batch: int,
        seed: int,
        *,
        cross_documents: bool = False,
    ) -> None:
        length = check_whole("WindowSampler: length", length, 1, 2**63 - 1)
        batch = check_whole("WindowSampler: batch", batch, 1, MOST_WINDOWS)
        seed = check_whole("WindowSampler: seed", seed, 0, 2**63 - 1)
        n_targets = len(tokens.tokens) - 1
        if n_targets < length:
            raise ValueError(
                f"WindowSampler: windows of length {length} need {length + 1} tokens, but the text "
                f"has {len(tokens.tokens)}; use a shorter length or more text"
            )
        self.length, self.batch_size, self.seed = length, batch, seed
        self.cross_documents = cross_documents
        self._stream = tokens
        masked = getattr(tokens, "masked", None)
        self._masked_runs = None if masked is None or not len(masked) else masked.ravel()
        # With two windows or more the offset may be anything below a window, at the price of one.
        self.windows_per_epoch = max(n_targets // length - 1, 1)
        self._offsets = min(length, n_targets - self.windows_per_epoch * length + 1)
        self._epochs: OrderedDict[int, NDArray[np.int64]] = OrderedDict()

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Windows:
        """The windows of one step on one rank: rows rank·B/world ... of the global batch.

        Args:
            step: 0 or more.
            rank: 0 ... world − 1.
            world: number of ranks; divides the batch.

        Raises: ValueError if an argument is out of range or ``world`` does not divide the batch.
        """
        import torch  # here, so that text is prepared without it

        starts = self._starts(step, rank, world)
        stream = self._stream.tokens
        windows = np.stack([stream[s : s + self.length + 1] for s in starts]).astype(np.int64)
        targets = windows[:, 1:].copy()
        if self._masked_runs is not None:
            for row, start in zip(targets, starts, strict=True):
                row[self._masked(start, self._masked_runs)] = IGNORE
        if self.cross_documents:
            ids = np.zeros((len(starts), self.length), dtype=np.int64)
        else:
            ids = np.stack([self._document_ids(s) for s in starts])
        return Windows(
            torch.from_numpy(windows[:, :-1].copy()),
            torch.from_numpy(targets),
            torch.from_numpy(ids),
        )

    def targets(self, step: int, rank: int = 0, world: int = 1) -> int:
        """How many targets the windows of one step on one rank have: all that are not masked.

        Args and raises: as `batch`.
        """
        starts = self._starts(step, rank, world)
        count, runs = len(starts) * self.length, self._masked_runs
        if runs is None:
            return count
        return count - sum(int(self._masked(start, runs).sum()) for start in starts)

    def _starts(self, step: int, rank: int, world: int) -> list[int]:
        """First tokens of the windows of one step on one rank."""
        step = check_whole("WindowSampler.batch: step", step, 0, None)
        rank = check_whole("WindowSampler.batch: rank", rank, None, None)
        world = check_whole("WindowSampler.batch: world", world, None, None)
        if world < 1 or not 0 <= rank < world:
            raise ValueError(
                f"WindowSampler.batch: expected a rank of 0 ... world - 1, got rank {shown(rank)} "
                f"and world {shown(world)}"
            )
        if self.batch_size % world:
            raise ValueError(
                f"WindowSampler.batch: a batch of {self.batch_size} "
                f"{plural(self.batch_size, 'window')} cannot be divided among {shown(world)} "
                f"ranks; make the batch a multiple of {world}"
            )
        rows = self.batch_size // world
        first = step * self.batch_size + rank * rows
        places = (divmod(first + row, self.windows_per_epoch) for row in range(rows))
        return [int(self._epoch(epoch)[index]) for epoch, index in places]

    def _epoch(self, epoch: int) -> NDArray[np.int64]:
        """First tokens of an epoch's windows in order of their visit. The last two are kept."""
        if epoch not in self._epochs:
            generator = np.random.default_rng(np.random.SeedSequence([self.seed, epoch]))
            offset = generator.integers(self._offsets)
            order = generator.permutation(self.windows_per_epoch)
            self._epochs[epoch] = offset + order * self.length
            if len(self._epochs) > 2:
                self._epochs.popitem(last=False)
        return self._epochs[epoch]

    def _masked(self, start: int, runs: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which targets of a window are masked, (L,); ``runs`` says where that begins and ends."""
        first = start + 1
        low, high = np.searchsorted(runs, [first, start + self.length], side="right")
        changes = np.zeros(self.length, dtype=np.int64)
        changes[0] = low
        changes[runs[low:high] - first] = 1
        masked = np.cumsum(changes) % 2 == 1
        masked[-1] &= not masked.all()
        return masked

    def _document_ids(self, start: int) -> NDArray[np.int64]:
        starts = self._stream.document_starts
        low, high = np.searchsorted(starts, [start, start + self.length - 1], side="right")
        ids = np.zeros(self.length, dtype=np.int64)
        ids[starts[low:high] - start] = 1
        return np.cumsum(ids)
