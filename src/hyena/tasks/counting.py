"""Counting: how often does the last token occur.

Sizes: B batch, T positions.
"""

from __future__ import annotations

import torch

from hyena.ops.arguments import check_whole
from hyena.tasks.batch import IGNORE, Batch
from hyena.tasks.placement import draw_repeated, placed
from hyena.tasks.splits import Split
from hyena.tasks.words import letters, question


class Counting:
    """How often the prompt's last token occurs in it, itself included: ``a b b b a c b → 4``.

    Poli et al. 2023 (arXiv:2302.10866), section 4.1 and appendix C. T = length. Half of the tokens,
    rounded down, are the numbers from 1 on; they come after the letters and only ever are targets.
    The answer is drawn uniformly from 1 to that half (or to the length, if that is less), the
    letter uniformly, its places other than the last uniformly; the other positions hold other
    letters, uniformly with replacement. So each answer is as likely as any other, whatever the
    length; the paper does not say how its prompts were drawn. Only the last position has a loss and
    is an answer.

    The letter, the answer and the first 64 of the other letters decide on the split.

    Args:
        length: tokens, at least 2.
        vocab_size: tokens, at least 4.

    Raises: ValueError for another length or vocab_size.
    """

    name = "counting"
    asks = "answer how often the last token occurs"
    features = 0

    def __init__(self, *, length: int = 1024, vocab_size: int = 30) -> None:
        check_whole(self.name, "length", length, 2)
        check_whole(self.name, "vocab_size", vocab_size, None)
        if vocab_size < 4:
            raise ValueError(
                f"counting: vocab_size: expected at least 4, for two letters and two numbers, "
                f"got {vocab_size}"
            )
        self.vocab_size = vocab_size
        self.length = length
        self.letters = vocab_size - vocab_size // 2

    def sample(self, count: int, generator: torch.Generator, split: Split) -> Batch:
        """Draws ``count`` prompts. Raises: ValueError as `hyena.tasks.splits.draw_split`."""
        most = min(self.vocab_size - self.letters, self.length)
        letter, number, others = draw_repeated(
            count,
            generator,
            split,
            tokens=self.letters,
            length=self.length,
            numbers=(1, most),
            task=self.name,
        )
        order = torch.rand(count, self.length - 1, dtype=torch.float64, generator=generator)
        places = order.topk(most - 1, dim=1).indices  # of which a row uses number − 1
        here = torch.zeros(count, self.length, dtype=torch.bool)
        here[:, -1] = True
        here.scatter_(1, places, torch.arange(most - 1) < number - 1)
        inputs = placed(letter, here, others)
        targets = torch.full_like(inputs, IGNORE)
        targets[:, -1:] = self.letters + number - 1
        return Batch(inputs, targets, targets != IGNORE)

    def show(self, batch: Batch, row: int) -> str:
        """Letters, and the answer as a number: ``a b b b a c b → 4``."""
        prompt = [letters(token) for token in batch.inputs[row].tolist()]
        return question(prompt, [str(int(batch.targets[row, -1]) - self.letters + 1)])
