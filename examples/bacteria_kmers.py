"""What counts of k-mers know: the species of a window by regression, and the next base."""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from hyena.genomes import reverse_complement

CODES = np.full(256, -1, dtype=np.int8)
"""0 to 3 for A, C, G and T, −1 for any other letter."""
CODES[list(b"ACGT")] = range(4)

Guess = Callable[[Sequence[bytes]], NDArray[np.int64]]
"""The number of the species of each window."""


def kmers_of(sequence: bytes, k: int) -> NDArray[np.int64]:
    """The k-mer at each position as a number, in the order of the alphabet; −1 where one has
    another letter than A, C, G and T."""
    codes = CODES[np.frombuffer(sequence, dtype=np.uint8)].astype(np.int64)
    count = max(0, len(codes) - k + 1)
    parts = np.stack([codes[i : i + count] for i in range(k)])  # (k, count)
    powers = 4 ** np.arange(k - 1, -1, -1)
    return np.where((parts >= 0).all(0), powers @ parts, -1)


@cache
def _other_strand(k: int) -> NDArray[np.int64]:
    """The reverse complement of each k-mer, (4^k,)."""
    digits = np.indices((4,) * k).reshape(k, -1)
    return np.ravel_multi_index(tuple(3 - digits[::-1]), (4,) * k)


def kmer_frequencies(window: bytes, k: int) -> NDArray[np.float64]:
    """The share of each k-mer among those of a window and of its other strand, (4^k,)."""
    kmers = kmers_of(window, k)
    counts = np.bincount(kmers[kmers >= 0], minlength=4**k)
    both = counts + counts[_other_strand(k)]
    return both / max(1, both.sum())


def kmer_regression(
    windows: Sequence[bytes],
    labels: NDArray[np.int64],
    classes: int,
    *,
    k: int,
    penalty: float = 1e-3,
) -> Guess:
    """Softmax regression on the frequencies of k-mers, each with mean 0 and variance 1, by L-BFGS.

    Args: penalty: of the sum of the squares of the weights.
    """
    x = np.stack([kmer_frequencies(window, k) for window in windows])
    mean, deviation = x.mean(0), x.std(0)
    deviation = np.where(deviation > 0, deviation, 1.0)
    inputs, targets = torch.from_numpy((x - mean) / deviation), torch.from_numpy(labels)
    weight = torch.zeros(classes, x.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(F.linear(inputs, weight, bias), targets)
        loss = loss + penalty * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)

    @torch.no_grad()
    def guess(windows: Sequence[bytes]) -> NDArray[np.int64]:
        x = np.stack([kmer_frequencies(window, k) for window in windows])
        return F.linear(torch.from_numpy((x - mean) / deviation), weight, bias).argmax(1).numpy()

    return guess


class NextBase:
    """How likely each base is behind the k − 1 before it, by counts of k-mers on both strands.

    Each count has one added.

    Args: windows: where they are counted.
    """

    def __init__(self, windows: Sequence[bytes], k: int) -> None:
        self._k = k
        counts = np.zeros(4**k, dtype=np.int64)
        for window in windows:
            kmers = kmers_of(window, k)
            counts += np.bincount(kmers[kmers >= 0], minlength=4**k)
        both = (1 + counts + counts[_other_strand(k)]).reshape(-1, 4)
        self._log = np.log(both / both.sum(1, keepdims=True)).reshape(-1)

    def log_likelihoods(self, sequence: bytes) -> NDArray[np.float64]:
        """Of each base, nan where not all k up to it are A, C, G or T."""
        kmers = kmers_of(sequence, self._k)
        known = np.where(kmers >= 0, self._log[kmers], np.nan)
        return np.concatenate([np.full(len(sequence) - len(known), np.nan), known])

    def score(self, sequence: bytes, at: int, base: bytes) -> float:
        """How much likelier a sequence is with another base at a position, in the mean of both
        strands."""
        around = sequence[max(0, at - self._k + 1) : at + self._k]
        left = min(at, self._k - 1)
        changed = around[:left] + base + around[left + 1 :]
        first, then = (
            np.nansum([self.log_likelihoods(one), self.log_likelihoods(reverse_complement(one))])
            for one in (around, changed)
        )
        return float(then - first) / 2
