"""Associative recall, token by token as in the paper's public code.

Sizes: B batch, T positions.
"""

from __future__ import annotations

import torch

from hyena.tasks.batch import Batch
from hyena.tasks.key_values import check_few_keys, draw_key_values
from hyena.tasks.splits import Split
from hyena.tasks.words import letters, question


class AssociativeRecall:
    """Key-value pairs of a map drawn anew for each sequence, ``=>``, and a key: answer its value.

    Poli et al. 2023 (arXiv:2302.10866), section 4.1 and appendix A.1, with the layout of the
    authors' ``synthetics.py``. Of the tokens, 0 is a no-op that never occurs and the last is
    ``=>``; of those between, the lower half, rounded down, are keys and the others values. The
    inputs are length / 2 pairs, ``=>`` and the key asked for, T = length + 2. Every position has a
    loss: its target is the next token, and the last one's the value. Only the last is an answer.

    Pairs and key are drawn as `hyena.tasks.key_values.draw_key_values` says; the first 64 tokens
    decide on the split.

    Args:
        length: tokens of the pairs, even and at least 2.
        vocab_size: tokens, the two special ones included; at least 4.
        most_keys: different keys in a sequence at most, to make it easier; all keys without it.
        alphabet: keys, the first ones, and as many values that occur in any sequence, to make it
            easier in another way; the whole vocabulary without it.

    Raises: ValueError for another length, vocab_size, most_keys or alphabet.
    """

    name = "recall"
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
                f"recall: length: expected an even number of at least 2, for pairs, got {length}"
            )
        if vocab_size < 4:
            raise ValueError(
                f"recall: vocab_size: expected at least 4, for a key, a value and the two special "
                f"tokens, got {vocab_size}"
            )
        self.vocab_size = vocab_size
        self.length = length + 2
        self.keys = (vocab_size - 2) // 2
        self.values = vocab_size - 2 - self.keys
        self.prefix = vocab_size - 1  # the token =>
        check_few_keys(self.name, self.keys, most_keys, alphabet)
        self.most_keys, self.alphabet = most_keys, alphabet

    def sample(self, count: int, generator: torch.Generator, split: Split) -> Batch:
        """Draws ``count`` prompts. Raises: ValueError as `hyena.tasks.splits.draw_split`."""
        drawn = draw_key_values(
            count,
            generator,
            split,
            pairs=(self.length - 2) // 2,
            keys=self.keys,
            values=self.values,
            most_keys=self.most_keys,
            alphabet=self.alphabet,
            task=self.name,
        )
        prefix = torch.full((count, 1), self.prefix)
        tokens = torch.cat([drawn.pairs + 1, prefix, drawn.asked + 1, drawn.value + 1], dim=1)
        inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
        answers = torch.zeros(inputs.shape, dtype=torch.bool)
        answers[:, -1] = True
        return Batch(inputs, targets, answers)

    def show(self, batch: Batch, row: int) -> str:
        """Keys as letters, values as numbers: ``a 3 c 1 a 3 => c → 1``."""
        prompt = [self._word(token) for token in batch.inputs[row].tolist()]
        return question(prompt, [self._word(int(batch.targets[row, -1]))])

    def _word(self, token: int) -> str:
        if token in (0, self.prefix):
            return "=>" if token else "."
        return letters(token - 1) if token <= self.keys else str(token - self.keys)
