"""Associative recall without special tokens.

Sizes: B batch, T positions.
"""

from __future__ import annotations

import torch

from hyena.tasks.batch import Batch
from hyena.tasks.key_values import check_few_keys, draw_key_values
from hyena.tasks.splits import Split
from hyena.tasks.words import letters, question


class PlainRecall:
    """Key-value pairs of a map drawn anew for each sequence, then a key: answer its value.

    The task as Poli et al. 2023 (arXiv:2302.10866) print it in section 4.1: ``a 1 b e 3 f b → e``.
    The lower half of the tokens, rounded down, are keys and the others values. The inputs are
    length / 2 pairs and the key asked for, T = length + 1. Losses, answers, draws and split are
    those of `hyena.tasks.AssociativeRecall`.

    Args:
        length: tokens of the pairs, even and at least 2.
        vocab_size: tokens, at least 2.
        most_keys: different keys in a sequence at most, to make it easier; all keys without it.
        alphabet: keys, the first ones, and as many values that occur in any sequence, to make it
            easier in another way; the whole vocabulary without it.

    Raises: ValueError for another length, vocab_size, most_keys or alphabet.
    """

    name = "recall-plain"
    features = 0

    def __init__(
        self,
        *,
        length: int = 1024,
        vocab_size: int = 30,
        most_keys: int | None = None,
        alphabet: int | None = None,
    ) -> None:
        if length < 2 or length % 2:
            raise ValueError(
                f"recall-plain: length: expected an even number of at least 2, for pairs, "
                f"got {length}"
            )
        if vocab_size < 2:
            raise ValueError(
                f"recall-plain: vocab_size: expected at least 2, for a key and a value, "
                f"got {vocab_size}"
            )
        self.vocab_size = vocab_size
        self.length = length + 1
        self.keys = vocab_size // 2
        check_few_keys(self.name, self.keys, most_keys, alphabet)
        self.most_keys, self.alphabet = most_keys, alphabet

    def sample(self, count: int, generator: torch.Generator, split: Split) -> Batch:
        """Draws ``count`` prompts. Raises: ValueError as `hyena.tasks.splits.draw_split`."""
        drawn = draw_key_values(
            count,
            generator,
            split,
            pairs=(self.length - 1) // 2,
            keys=self.keys,
            values=self.vocab_size - self.keys,
            most_keys=self.most_keys,
            alphabet=self.alphabet,
            task=self.name,
        )
        tokens = torch.cat([drawn.pairs, drawn.asked, drawn.value], dim=1)
        inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
        answers = torch.zeros(inputs.shape, dtype=torch.bool)
        answers[:, -1] = True
        return Batch(inputs, targets, answers)

    def show(self, batch: Batch, row: int) -> str:
        """Keys as letters, values as numbers: ``a 3 c 1 a 3 c → 1``."""
        prompt = [self._word(token) for token in batch.inputs[row].tolist()]
        return question(prompt, [self._word(int(batch.targets[row, -1]))])

    def _word(self, token: int) -> str:
        return letters(token) if token < self.keys else str(token - self.keys + 1)
