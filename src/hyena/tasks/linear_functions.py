"""Learning a linear function from examples in the prompt.

Sizes: B batch, d dimension, n pairs, T positions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hyena.arguments import check_whole
from hyena.tasks.batch import Batch
from hyena.tasks.splits import Split, draw_split
from hyena.tasks.words import shortened


class LinearFunctions:
    """Vectors and their images under an unknown linear function: x1, w·x1, x2, w·x2, …, xn → w·xn.

    Poli et al. 2023 (arXiv:2302.10866), section 4.1; the task is of Garg et al. 2022
    (arXiv:2208.01066). Positions have d + 1 features: a vector and 0, or d zeros and the function's
    value. They alternate and end in a vector, T = 2n − 1. All x and w are normal with unit
    variance, w drawn anew for each prompt; so the error of always answering 0 is d.

    Each vector's position has a loss, the squared error from the value that follows, and is an
    answer; the positions of values have none. In their order, the answers therefore say how the
    function is known after 0, 1, …, n − 1 examples; the last one is the question of the paper.
    `least_squares_errors` is what to compare with.

    The first vector decides on the split.

    Args:
        dimension: d, at least 1.
        pairs: n, at least 1; without it 2d + 1, as Garg et al. have it.

    Raises: ValueError for other values.
    """

    name = "linear-functions"
    asks = "vectors and values of a linear function, then a vector: its value"
    vocab_size = 0

    def __init__(self, *, dimension: int = 5, pairs: int | None = None) -> None:
        dimension = check_whole(f"{self.name}: dimension", dimension)
        pairs = 2 * dimension + 1 if pairs is None else check_whole(f"{self.name}: pairs", pairs)
        self.dimension, self.pairs = dimension, pairs
        self.features = dimension + 1
        self.length = 2 * self.pairs - 1

    def sample(self, count: int, generator: torch.Generator, split: Split) -> Batch:
        """Draws ``count`` prompts. Raises: ValueError as `hyena.tasks.splits.draw_split`."""

        def candidates(rows: int) -> tuple[Tensor, ...]:
            first = torch.randn(rows, self.dimension, dtype=torch.float32, generator=generator)
            return first.view(torch.int32).long(), first

        (first,) = draw_split(candidates, count, split, self.name)
        size = (count, self.pairs - 1, self.dimension)
        rest = torch.randn(size, dtype=torch.float32, generator=generator)
        x = torch.cat([first[:, None], rest], dim=1)  # (B, n, d)
        w = torch.randn(count, self.dimension, 1, dtype=torch.float64, generator=generator)
        y = (x.double() @ w).float().squeeze(2)  # (B, n), rounded once
        inputs = torch.zeros(count, self.length, self.features, dtype=torch.float32)
        inputs[:, ::2, :-1] = x
        inputs[:, 1::2, -1] = y[:, :-1]
        targets = torch.full((count, self.length), torch.nan, dtype=torch.float32)
        targets[:, ::2] = y
        return Batch(inputs, targets, ~targets.isnan())

    def show(self, batch: Batch, row: int) -> str:
        """Vectors and values: ``(0.31, -1.20) → 0.75, (0.02, 0.44) → -1.01``."""
        vectors = batch.inputs[row, ::2, :-1].tolist()
        values = batch.targets[row, ::2].tolist()
        words = [
            f"({', '.join(shortened([f'{number:.2f}' for number in x], 4))}) → {y:.2f}"
            for x, y in zip(vectors, values, strict=True)
        ]
        return ", ".join(shortened(words, 6))


def least_squares_errors(batch: Batch) -> Tensor:
    """Squared error of least squares on the prompts of `LinearFunctions`, (B, n) float64.

    Column k has the error at vector k + 1 of the solution that fits the k examples before it; with
    fewer examples than dimensions, the shortest of all that fit them. For normal x and w without
    noise no estimate has a smaller expected error. From k = d on it is 0 but for rounding.
    """
    x = batch.inputs[:, ::2, :-1].double()  # (B, n, d)
    y = batch.targets[:, ::2].double()  # (B, n)
    errors = y.square()  # without examples the answer is 0
    for k in range(1, x.shape[1]):
        # gelsd: the only drivers that give the shortest solution are those by singular values.
        w = torch.linalg.lstsq(x[:, :k], y[:, :k, None], driver="gelsd").solution  # (B, d, 1)
        errors[:, k] = ((x[:, k, None] @ w).flatten() - y[:, k]).square()
    return errors
