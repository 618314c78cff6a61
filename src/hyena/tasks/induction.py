"""Induction head: copy what followed the trigger.

Sizes: B batch, C copied tokens, T positions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hyena.arguments import check_whole
from hyena.tasks.batch import IGNORE, Batch
from hyena.tasks.splits import DECIDING, Split, draw_split
from hyena.tasks.words import letters, question


class InductionHead:
    """Random text with a trigger in it; after the trigger's last occurrence, what followed it.

    Poli et al. 2023 (arXiv:2302.10866), section 4.1; the layout is that of Fu et al. 2022
    (arXiv:2212.14052). The last token is the trigger, the others are text, drawn uniformly with
    replacement. Of the ``length`` tokens of text ``triggers`` are replaced by the trigger, each
    followed by the same ``copy_length`` tokens; the places are uniform, and moved apart where
    these blocks would overlap. Then come the trigger once more and the copied tokens but the last,
    T = length + copy_length. The last copy_length positions, from the trigger on, have a loss and
    are answers; each sees the right tokens before it.

    The text itself cannot be predicted and has no loss, other than in the authors' code, which
    trains on every position and measures these. There the number of triggers also varies.

    The first 64 tokens decide on the split.

    Args:
        length: tokens of text, at least triggers · (copy_length + 1).
        vocab_size: tokens, the trigger included; at least 3.
        copy_length: tokens to copy, at least 1.
        triggers: occurrences in the text, at least 1.

    Raises: ValueError for other values.
    """

    name = "induction"
    asks = "text with a trigger, then the trigger: copy what followed it"
    features = 0

    def __init__(
        self,
        *,
        length: int = 1024,
        vocab_size: int = 30,
        copy_length: int = 1,
        triggers: int = 1,
    ) -> None:
        vocab_size = check_whole(f"{self.name}: vocab_size", vocab_size, 3)
        copy_length = check_whole(f"{self.name}: copy_length", copy_length)
        triggers = check_whole(f"{self.name}: triggers", triggers)
        why = f"triggers={triggers} each followed by copy_length={copy_length} tokens"
        least = triggers * (copy_length + 1)
        length = check_whole(f"{self.name}: length", length, least, why=why)
        self.vocab_size = vocab_size
        self.length = length + copy_length
        self.copy_length = copy_length
        self.triggers = triggers
        self.trigger = vocab_size - 1

    def sample(self, count: int, generator: torch.Generator, split: Split) -> Batch:
        """Draws ``count`` prompts. Raises: ValueError as `hyena.tasks.splits.draw_split`."""
        length = self.length - self.copy_length
        first = min(length, DECIDING)
        # With the blocks taken out of the text, a block stands before one of its tokens or at the
        # end; the blocks before it move it on.
        free = length - self.triggers * (self.copy_length + 1)
        moved = torch.arange(self.triggers) * (self.copy_length + 1)

        def candidates(rows: int) -> tuple[Tensor, ...]:
            draws = torch.randint(free + 1, (rows, self.triggers), generator=generator)
            places = draws.sort(dim=1).values + moved
            copied = torch.randint(self.trigger, (rows, self.copy_length), generator=generator)
            text = torch.randint(self.trigger, (rows, first), generator=generator)
            return self._with_blocks(text, places, copied), text, places, copied

        text, places, copied = draw_split(candidates, count, split, self.name)
        rest = torch.randint(self.trigger, (count, length - first), generator=generator)
        text = self._with_blocks(torch.cat([text, rest], dim=1), places, copied)
        last = torch.full((count, 1), self.trigger)
        inputs = torch.cat([text, last, copied[:, :-1]], dim=1)
        targets = torch.full_like(inputs, IGNORE)
        targets[:, length:] = copied
        return Batch(inputs, targets, targets != IGNORE)

    def _with_blocks(self, text: Tensor, places: Tensor, copied: Tensor) -> Tensor:
        # text (B, W) with the trigger and the copied tokens (B, C) at each place (B, triggers).
        # A block may run past the end where the text is only the first part of one.
        rows, width = text.shape
        block = torch.cat([torch.full((rows, 1), self.trigger), copied], dim=1)  # (B, C+1)
        where = places[:, :, None] + torch.arange(self.copy_length + 1)  # (B, triggers, C+1)
        wide = torch.nn.functional.pad(text, (0, 1))  # a column for what is past the end
        wide.scatter_(1, where.clamp(max=width).flatten(1), block.repeat(1, self.triggers))
        return wide[:, :width]

    def show(self, batch: Batch, row: int) -> str:
        """Text as letters, the trigger as #: ``c a # b d a # → b``."""
        prompt = batch.inputs[row, : self.length - self.copy_length + 1].tolist()
        copied = batch.targets[row, batch.answers[row]].tolist()
        return question([self._word(t) for t in prompt], [self._word(t) for t in copied])

    def _word(self, token: int) -> str:
        return "#" if token == self.trigger else letters(token)
