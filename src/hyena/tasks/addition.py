"""Addition of two numbers, digit by digit.

Sizes: B batch, D digits of a summand, T positions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hyena.arguments import check_whole
from hyena.tasks.batch import IGNORE, Batch
from hyena.tasks.splits import Split, draw_split


class Addition:
    """Two numbers of D digits, then the D + 1 digits of their sum: 1 2 3 9 5 4 → 1 0 7 7.

    Poli et al. 2023 (arXiv:2302.10866), section 4.1 and appendix C. The tokens are the ten
    digits. All 3 · D + 1 are written without signs between, highest digit first and with leading
    zeros; the inputs are all but the last, T = 3 · D, and targets are the next tokens. The first
    2 · D − 1 have no loss, since the summands cannot be predicted; the other D + 1, the sum's
    digits, are answers. A sum is right when all its digits are: `hyena.tasks.exact_match`.

    Both numbers are uniform from 0 to 10^D − 1. All their digits decide on the split, so that with
    one digit it is the 100 problems that are shared out, and 13 of them are for the test. Problems
    that differ in the order of the summands are different problems.

    Args:
        digits: D, at least 1.

    Raises: ValueError for fewer digits.
    """

    name = "addition"
    asks = "two numbers by their digits: the digits of their sum"
    vocab_size = 10
    features = 0

    def __init__(self, *, digits: int = 4) -> None:
        self.digits = check_whole(f"{self.name}: digits", digits)
        self.length = 3 * self.digits

    def sample(self, count: int, generator: torch.Generator, split: Split) -> Batch:
        """Draws ``count`` prompts. Raises: ValueError as `hyena.tasks.splits.draw_split`."""
        D = self.digits

        def candidates(rows: int) -> tuple[Tensor, ...]:
            summands = torch.randint(10, (rows, 2 * D), generator=generator)
            return summands, summands

        (summands,) = draw_split(candidates, count, split, self.name)
        columns = summands[:, :D] + summands[:, D:]
        total = torch.empty(count, D + 1, dtype=torch.int64)
        carry = torch.zeros(count, dtype=torch.int64)
        for place in reversed(range(D)):  # any number of digits, so no number is ever formed
            column = columns[:, place] + carry
            total[:, place + 1] = column % 10
            carry = column // 10
        total[:, 0] = carry
        inputs = torch.cat([summands, total[:, :-1]], dim=1)
        targets = torch.full_like(inputs, IGNORE)
        targets[:, 2 * D - 1 :] = total
        return Batch(inputs, targets, targets != IGNORE)

    def show(self, batch: Batch, row: int) -> str:
        """The digits, and what they mean: ``1 2 3 9 5 4 → 1 0 7 7 (123 + 954 = 1077)``."""
        D = self.digits
        summands = [str(digit) for digit in batch.inputs[row, : 2 * D].tolist()]
        total = [str(digit) for digit in batch.targets[row, batch.answers[row]].tolist()]
        one, two = (int("".join(digits)) for digits in (summands[:D], summands[D:]))
        meaning = f"({one} + {two} = {int(''.join(total))})"
        return f"{' '.join(summands)} → {' '.join(total)} {meaning}"
