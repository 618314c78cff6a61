"""Species by their k-mers: how often each of them is in a window, and regression on that."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

K = 4
"""Tetranucleotides, in whose frequencies species differ."""

_CODES = np.full(256, -1)
_CODES[list(b"ACGT")] = range(4)
_DIGITS = np.indices((4,) * K).reshape(K, -1)  # of each k-mer, (K, 4^K)
_OTHER_STRAND = np.ravel_multi_index(tuple(3 - _DIGITS[::-1]), (4,) * K)

Guess = Callable[[Sequence[bytes]], NDArray[np.int64]]
"""The number of the species of each window."""


def kmer_frequencies(window: bytes) -> NDArray[np.float64]:
    """The share of each k-mer among those of a window and of its other strand, (4^K,).

    K-mers are in the order of the alphabet; those with a letter other than A, C, G and T are none.
    """
    codes = _CODES[np.frombuffer(window, dtype=np.uint8)]
    count = max(0, len(codes) - K + 1)
    parts = np.stack([codes[i : i + count] for i in range(K)])  # (K, count)
    known = parts[:, (parts >= 0).all(0)]
    counts = np.bincount(np.ravel_multi_index(tuple(known), (4,) * K), minlength=4**K)
    both = counts + counts[_OTHER_STRAND]
    return both / max(1, both.sum())


def kmer_regression(
    windows: Sequence[bytes], labels: NDArray[np.int64], classes: int, penalty: float = 1e-3
) -> Guess:
    """Softmax regression on the frequencies of k-mers, each with mean 0 and variance 1, by L-BFGS.

    Args: penalty: of the sum of the squares of the weights.
    """
    x = np.stack([kmer_frequencies(window) for window in windows])
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
        x = np.stack([kmer_frequencies(window) for window in windows])
        return F.linear(torch.from_numpy((x - mean) / deviation), weight, bias).argmax(1).numpy()

    return guess
