"""Tasks on one token that occurs among others: which one fills more than half, and how often.

Sizes: B batch, L length, T positions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hyena.arguments import check_whole
from hyena.tasks.batch import IGNORE, Batch
from hyena.tasks.splits import DECIDING, Split, draw_split
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
        self.length = check_whole(f"{self.name}: length", length, 3)
        self.vocab_size = check_whole(f"{self.name}: vocab_size", vocab_size, 2)

    def sample(self, count: int, generator: torch.Generator, split: Split) -> Batch:
        """Draws ``count`` prompts. Raises: ValueError as `hyena.tasks.splits.draw_split`."""
        least = self.length // 2 + 1
        numbers = least, max(least, 3 * self.length // 4)
        token, number, others = _draw(self, self.vocab_size, numbers, count, generator, split)
        order = torch.rand(count, self.length, dtype=torch.float64, generator=generator).argsort(1)
        here = torch.empty(order.shape, dtype=torch.bool)
        here.scatter_(1, order, torch.arange(self.length) < number)
        return _prompts(token, here, others, answer=token)

    def show(self, batch: Batch, row: int) -> str:
        """Tokens as letters: ``a g g g e f g → g``."""
        prompt = [letters(token) for token in batch.inputs[row].tolist()]
        return question(prompt, [letters(int(batch.targets[row, -1]))])


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
        length = check_whole(f"{self.name}: length", length, 2)
        why = "two letters and two numbers"
        vocab_size = check_whole(f"{self.name}: vocab_size", vocab_size, 4, why=why)
        self.vocab_size = vocab_size
        self.length = length
        self.letters = vocab_size - vocab_size // 2

    def sample(self, count: int, generator: torch.Generator, split: Split) -> Batch:
        """Draws ``count`` prompts. Raises: ValueError as `hyena.tasks.splits.draw_split`."""
        most = min(self.vocab_size - self.letters, self.length)
        letter, number, others = _draw(self, self.letters, (1, most), count, generator, split)
        order = torch.rand(count, self.length - 1, dtype=torch.float64, generator=generator)
        places = order.topk(most - 1, dim=1).indices  # of which a row uses number − 1
        here = torch.zeros(count, self.length, dtype=torch.bool)
        here[:, -1] = True
        here.scatter_(1, places, torch.arange(most - 1) < number - 1)
        return _prompts(letter, here, others, answer=self.letters + number - 1)

    def show(self, batch: Batch, row: int) -> str:
        """Letters, and the answer as a number: ``a b b b a c b → 4``."""
        prompt = [letters(token) for token in batch.inputs[row].tolist()]
        return question(prompt, [str(int(batch.targets[row, -1]) - self.letters + 1)])


def _draw(
    task: Majority | Counting,
    tokens: int,
    numbers: tuple[int, int],
    count: int,
    generator: torch.Generator,
    split: Split,
) -> tuple[Tensor, Tensor, Tensor]:
    """Draws a token of ``tokens``, how often it occurs, in ``numbers``, and other tokens for the
    rest of a sequence, all uniformly; of these the first 64 decide on the split, too.

    Returns: token (B, 1); number (B, 1); others (B, length − the least number).
    Raises: ValueError as `draw_split`.
    """
    least, most = numbers
    room = task.length - least
    first = min(room, DECIDING)

    def other_than(token: Tensor, width: int) -> Tensor:
        drawn = torch.randint(tokens - 1, (len(token), width), generator=generator)
        return drawn + (drawn >= token)

    def candidates(rows: int) -> tuple[Tensor, ...]:
        token = torch.randint(tokens, (rows, 1), generator=generator)
        number = torch.randint(least, most + 1, (rows, 1), generator=generator)
        others = other_than(token, first)
        # What no place is left for is not in the sequence, so it must not decide on its split.
        used = others.masked_fill(torch.arange(first) >= task.length - number, -1)
        return torch.cat([token, number, used], dim=1), token, number, others

    token, number, others = draw_split(candidates, count, split, task.name)
    return token, number, torch.cat([others, other_than(token, room - first)], dim=1)


def _prompts(token: Tensor, here: Tensor, others: Tensor, answer: Tensor) -> Batch:
    """``token`` (B, 1) where ``here`` (B, L) is true, elsewhere ``others`` (B, ≤ L) in their order,
    as many as there are places for; ``answer`` (B, 1) at the last position."""
    taken = (~here).cumsum(1) - 1  # which of the others stands here
    inputs = torch.where(here, token, others.gather(1, taken.clamp(min=0)))
    targets = torch.full_like(inputs, IGNORE)
    targets[:, -1:] = answer
    return Batch(inputs, targets, targets != IGNORE)
