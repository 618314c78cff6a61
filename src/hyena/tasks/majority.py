"""Majority: which token fills more than half of the prompt.

Sizes: B batch, T positions.
"""

from __future__ import annotations

import torch

from hyena.ops.arguments import check_whole
from hyena.tasks.batch import IGNORE, Batch
from hyena.tasks.placement import draw_repeated, placed
from hyena.tasks.splits import Split
from hyena.tasks.words import letters, question


class Majority:
    """One token occurs more often than all others together: answer it, ``a g g g e f g → g``.

    Poli et al. 2023 (arXiv:2302.10866), section 4.1 and appendix C. T = length. How often the token
    occurs is drawn uniformly from ⌊length / 2⌋ + 1 to ⌊3 · length / 4⌋ (or the former, if that is
    more), so that no single position gives it away; its places are uniform, and the other positions
    hold other tokens, uniformly with replacement. The paper does not say how its prompts were
    drawn; with all tokens equally likely the two most frequent of a long prompt would differ by
    chance only. Only the last position has a loss and is an answer.

    The token, its number and the first 64 of the other tokens decide on the split.

    Args:
        length: tokens, at least 3.
        vocab_size: tokens, at least 2.

    Raises: ValueError for another length or vocab_size.
    """

    name = "majority"
    asks = "answer the token that fills more than half of the prompt"
    features = 0

    def __init__(self, *, length: int = 1024, vocab_size: int = 30) -> None:
        check_whole(self.name, "length", length, 3)
        check_whole(self.name, "vocab_size", vocab_size, 2)
        self.vocab_size = vocab_size
        self.length = length

    def sample(self, count: int, generator: torch.Generator, split: Split) -> Batch:
        """Draws ``count`` prompts. Raises: ValueError as `hyena.tasks.splits.draw_split`."""
        least = self.length // 2 + 1
        token, number, others = draw_repeated(
            count,
            generator,
            split,
            tokens=self.vocab_size,
            length=self.length,
            numbers=(least, max(least, 3 * self.length // 4)),
            task=self.name,
        )
        order = torch.rand(count, self.length, dtype=torch.float64, generator=generator).argsort(1)
        here = torch.empty(order.shape, dtype=torch.bool)
        here.scatter_(1, order, torch.arange(self.length) < number)
        inputs = placed(token, here, others)
        targets = torch.full_like(inputs, IGNORE)
        targets[:, -1:] = token
        return Batch(inputs, targets, targets != IGNORE)

    def show(self, batch: Batch, row: int) -> str:
        """Tokens as letters: ``a g g g e f g → g``."""
        prompt = [letters(token) for token in batch.inputs[row].tolist()]
        return question(prompt, [letters(int(batch.targets[row, -1]))])
