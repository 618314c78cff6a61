"""Multi-query associative recall: many keys are asked for in one sequence.

Sizes: B batch, P pairs, T positions.
"""

from __future__ import annotations

from itertools import groupby

import torch
from torch import Tensor

from hyena.arguments import check_whole, shown
from hyena.tasks.batch import IGNORE, Batch
from hyena.tasks.recall import interleaved
from hyena.tasks.splits import DECIDING, Split, draw_split
from hyena.tasks.words import letters, shortened

# Exponent of the power law by which the keys are asked for early rather than late.
_POWER = 0.01


class MultiQueryRecall:
    """Key-value pairs with different keys, then each key once more, in gaps: answer its value.

    Arora et al. 2023 (arXiv:2312.04927). Token 0 is a no-op; of the others the lower
    half, rounded down, are keys and the rest values. The inputs are the pairs and then slots of two
    tokens each, T = length (an odd one ends in a no-op). A slot is a key and a no-op, or two
    no-ops; the s-th slot, from 1, is taken with a probability that falls as s^-0.99, so that most
    keys are asked for soon, as in text. The value does not follow its key. Only the positions of
    the keys asked for have a loss, their values, and all of these are answers.

    Where that paper leaves a choice: values are drawn with replacement, and gaps are filled with
    no-ops, so that a reader sees what is asked. The first 64 tokens of the pairs decide on the
    split.

    Args:
        length: tokens, at least 4.
        vocab_size: tokens, the no-op included; at least 3.
        pairs: key-value pairs, at most the number of keys and length // 4; without it that many.

    Raises: ValueError for another length, vocab_size or pairs.
    """

    name = "multi-query-recall"
    asks = "key-value pairs, then every key once more: answer their values"
    features = 0

    def __init__(
        self, *, length: int = 1024, vocab_size: int = 30, pairs: int | None = None
    ) -> None:
        length = check_whole(f"{self.name}: length", length, 4, why="a pair and a slot")
        why = "a key, a value and the no-op"
        vocab_size = check_whole(f"{self.name}: vocab_size", vocab_size, 3, why=why)
        self.keys = (vocab_size - 1) // 2
        most = min(self.keys, length // 4)
        if pairs is not None:
            pairs = check_whole(f"{self.name}: pairs", pairs, None)
        if pairs is not None and not 1 <= pairs <= most:
            raise ValueError(
                f"multi-query-recall: pairs: expected 1 to {most}, since vocab_size={vocab_size} "
                f"has {self.keys} keys and a pair takes 4 of the {length} tokens, got "
                f"{shown(pairs)}"
            )
        self.vocab_size = vocab_size
        self.length = length
        self.pairs = most if pairs is None else pairs

    def sample(self, count: int, generator: torch.Generator, split: Split) -> Batch:
        """Draws ``count`` prompts. Raises: ValueError as `hyena.tasks.splits.draw_split`."""
        first_value = 1 + self.keys

        def candidates(rows: int) -> tuple[Tensor, ...]:
            order = torch.rand(rows, self.keys, dtype=torch.float64, generator=generator)
            keys = 1 + order.topk(self.pairs, dim=1).indices
            values = torch.randint(
                first_value, self.vocab_size, (rows, self.pairs), generator=generator
            )
            return interleaved(keys, values)[:, :DECIDING], keys, values

        keys, values = draw_split(candidates, count, split, self.name)
        asked = 2 * self.pairs + 2 * self._slots(count, generator)  # (B, P), places in the inputs
        inputs = torch.zeros(count, self.length, dtype=torch.int64)
        inputs[:, : 2 * self.pairs] = interleaved(keys, values)
        inputs.scatter_(1, asked, keys)
        targets = torch.full_like(inputs, IGNORE).scatter_(1, asked, values)
        return Batch(inputs, targets, targets != IGNORE)

    def _slots(self, count: int, generator: torch.Generator) -> Tensor:
        # A slot for each key, (B, P), drawn one after the other without replacement. The largest of
        # log-probability plus Gumbel noise is such a draw, the second largest the next, and so on
        # (Vieira 2014; Kool et al. 2019, arXiv:1903.06059).
        slots = (self.length - 2 * self.pairs) // 2
        weight = (_POWER - 1) * torch.arange(1, slots + 1, dtype=torch.float64).log()
        noise = torch.empty(count, slots, dtype=torch.float64).exponential_(generator=generator)
        return (weight - noise.log()).topk(self.pairs, dim=1).indices

    def show(self, batch: Batch, row: int) -> str:
        """Keys as letters, values as numbers, answers after the keys asked for, and the tokens in
        a gap counted: ``a 3 b 1 | b → 1 .×7 a → 3 .×5``."""
        prompt, targets = batch.inputs[row].tolist(), batch.targets[row].tolist()
        pairs = [self._word(token) for token in prompt[: 2 * self.pairs]]
        questions = []
        for asked, run in groupby(range(2 * self.pairs, self.length), lambda t: prompt[t] != 0):
            places = list(run)
            if asked:
                questions += [f"{self._word(prompt[t])} → {self._word(targets[t])}" for t in places]
            else:
                questions.append(f".×{len(places)}")
        return f"{' '.join(shortened(pairs))} | {' '.join(shortened(questions))}"

    def _word(self, token: int) -> str:
        return letters(token - 1) if token <= self.keys else str(token - self.keys)
