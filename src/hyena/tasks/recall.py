"""Associative recall, token by token as in the paper's public code, and without special tokens.

Sizes: B batch, P pairs, K keys, T positions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hyena.arguments import check_whole, shown
from hyena.tasks.batch import Batch
from hyena.tasks.splits import DECIDING, Split, draw_split
from hyena.tasks.words import letters, question


class AssociativeRecall:
    """Key-value pairs of a map drawn anew for each sequence, ``=>``, and a key: answer its value.

    Poli et al. 2023 (arXiv:2302.10866), section 4.1 and appendix A.1, with the layout of the
    authors' ``synthetics.py``. Of the tokens, 0 is a no-op that never occurs and the last is
    ``=>``; of those between, the lower half, rounded down, are keys and the others values. The
    inputs are length / 2 pairs, ``=>`` and the key asked for, T = length + 2. Every position has a
    loss: its target is the next token, and the last one's the value. Only the last is an answer.

    Each sequence has its own map: every key gets a value, uniformly and with replacement. The keys
    of the pairs are uniform and with replacement as well; the key asked for is uniform among those
    that occur. The first 64 tokens decide on the split.

    Args:
        length: tokens of the pairs, even and at least 2.
        vocab_size: tokens, the two special ones included; at least 4.
        most_keys: to make it easier, a sequence has keys of a set of its own only, of 2 … most_keys
            of them, any number and any set equally likely; all keys without it.
        alphabet: to make it easier in another way, only so many keys, the first ones, and as many
            values occur in any sequence; the whole vocabulary without it.

    Raises: ValueError for another length, vocab_size, most_keys or alphabet.
    """

    name = "recall"
    asks = "key-value pairs, =>, a key: answer its value, laid out as in the public code"
    features = 0
    special = True  # the no-op and =>

    def __init__(
        self,
        *,
        length: int = 1024,
        vocab_size: int = 30,
        most_keys: int | None = None,
        alphabet: int | None = None,
    ) -> None:
        length = check_whole(f"{self.name}: length", length, None)
        if length < 2 or length % 2:
            raise ValueError(
                f"{self.name}: length: expected an even number of at least 2, for pairs, got "
                f"{shown(length)}"
            )
        why = "a key, a value and the two special tokens" if self.special else "a key and a value"
        least = 2 + 2 * self.special
        vocab_size = check_whole(f"{self.name}: vocab_size", vocab_size, least, why=why)
        ordinary = vocab_size - 2 * self.special
        self.vocab_size, self.pairs = vocab_size, length // 2
        self.length = length + 1 + self.special
        self.first = int(self.special)  # of the keys
        self.keys = ordinary // 2
        self.values = ordinary - self.keys
        self.prefix = vocab_size - 1  # the token =>, if there is one
        self.most_keys = self._few_keys("most_keys", most_keys)
        self.alphabet = self._few_keys("alphabet", alphabet)
        if self.most_keys and self.alphabet and self.most_keys > self.alphabet:
            raise ValueError(
                f"{self.name}: most_keys: expected at most the {self.alphabet} keys of the "
                f"alphabet, got {self.most_keys}"
            )

    def sample(self, count: int, generator: torch.Generator, split: Split) -> Batch:
        """Draws ``count`` prompts. Raises: ValueError as `hyena.tasks.splits.draw_split`."""
        pairs, asked, value = (x + self.first for x in self._draw(count, generator, split))
        prefix = torch.full((count, int(self.special)), self.prefix)
        tokens = torch.cat([pairs, prefix, asked, value], dim=1)
        inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
        answers = torch.zeros(inputs.shape, dtype=torch.bool)
        answers[:, -1] = True
        return Batch(inputs, targets, answers)

    def show(self, batch: Batch, row: int) -> str:
        """Keys as letters, values as numbers: ``a 3 c 1 a 3 => c → 1``."""
        prompt = [self._word(token) for token in batch.inputs[row].tolist()]
        return question(prompt, [self._word(int(batch.targets[row, -1]))])

    def _draw(
        self, count: int, generator: torch.Generator, split: Split
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Keys and values in turn (B, 2·P), a key that occurs (B, 1), and its value (B, 1).

        Keys are numbered from 0, values go on after the last key.
        """
        first = min(self.pairs, DECIDING // 2)
        used, used_values = self.keys, self.values
        if self.alphabet is not None:
            used, used_values = self.alphabet, min(self.alphabet, self.values)

        def of_sets(sets: Tensor, sizes: Tensor, number: int) -> Tensor:
            """Keys of each row's set, uniform: (rows, number)."""
            which = torch.rand(len(sets), number, dtype=torch.float64, generator=generator) * sizes
            return sets.gather(1, which.long())

        def candidates(rows: int) -> tuple[Tensor, ...]:
            maps = self.keys + torch.randint(used_values, (rows, used), generator=generator)
            if self.most_keys is None:
                drawn = torch.randint(used, (rows, first), generator=generator)
                return interleaved(drawn, maps.gather(1, drawn)), maps, drawn
            sets = torch.rand(rows, used, generator=generator).argsort(dim=1)
            sizes = torch.randint(2, self.most_keys + 1, (rows, 1), generator=generator)
            drawn = of_sets(sets, sizes, first)
            return interleaved(drawn, maps.gather(1, drawn)), maps, drawn, sets, sizes

        maps, drawn, *own = draw_split(candidates, count, split, self.name)
        if own:
            rest = of_sets(own[0], own[1], self.pairs - first)
        else:
            rest = torch.randint(used, (count, self.pairs - first), generator=generator)
        drawn = torch.cat([drawn, rest], dim=1)  # (B, P)
        occurs = torch.zeros(count, used).scatter_(1, drawn, 1.0)
        asked = torch.multinomial(occurs, 1, generator=generator)
        return interleaved(drawn, maps.gather(1, drawn)), asked, maps.gather(1, asked)

    def _word(self, token: int) -> str:
        if self.special and token in (0, self.prefix):
            return "=>" if token else "."
        number = token - self.first
        return letters(number) if number < self.keys else str(number - self.keys + 1)

    def _few_keys(self, name: str, value: int | None) -> int | None:
        """The value as an int. Raises: ValueError unless it is None or in 2 … keys."""
        if value is None:
            return None
        value = check_whole(f"{self.name}: {name}", value, None)
        if not 2 <= value <= self.keys:
            raise ValueError(
                f"{self.name}: {name}: expected 2 to {self.keys}, since the vocabulary has "
                f"{self.keys} keys, got {shown(value)}"
            )
        return value


class PlainRecall(AssociativeRecall):
    """`AssociativeRecall` without special tokens: key-value pairs, then a key: answer its value.

    As Poli et al. 2023 (arXiv:2302.10866) print it in section 4.1: ``a 1 b e 3 f b → e``. The lower
    half of the tokens, rounded down, are keys and the others values, of a vocabulary of at least 2.
    The inputs are length / 2 pairs and the key asked for, T = length + 1.
    """

    name = "recall-plain"
    asks = "key-value pairs, then a key: answer its value"
    special = False


def interleaved(keys: Tensor, values: Tensor) -> Tensor:
    """key, value, key, value, …: (B, 2·P) from (B, P) each."""
    return torch.stack([keys, values], dim=2).flatten(1)
