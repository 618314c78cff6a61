"""Log-probabilities of the tokens of sequences, many at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyena.arguments import check_whole
from hyena.data.nucleotide_tokenizers import of_nucleotides
from hyena.data.tokenizer import Tokenizer
from hyena.evaluation import sliding_windows
from hyena.generation.model import check_model
from hyena.model import LanguageModel

from .batches import inputs_and_targets, similar
from .sequences import Tokens, longer, require_tokenizer, room

Reduce = Literal["sum", "mean"]
LogProbabilities = NDArray[np.float64]
"""Of each token of a sequence given those before it, (n,); nan where nothing comes before."""


class Scorer:
    """A model that gives log-probabilities.

    Args:
        model, tokenizer: as in `hyena.score`.
        begin: begin each sequence with the tokenizer's end of text.
        window: most tokens that the model is given at once; None gives it a sequence whole.
        stride: tokens from one window to the next; None means half the window.
        batch: most rows at a time.

    Attributes:
        first: the first token of a sequence that has a log-probability, 0 or 1.
        limit: most tokens that the model takes at once; None if there is no limit.
        most: the longest sequence that can be scored; None if there is no limit.

    Raises: TypeError if it is no model; ValueError if a number is out of range.
    """

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer,
        *,
        begin: bool = True,
        window: int | None = None,
        stride: int | None = None,
        batch: int = 8,
    ) -> None:
        check_model("model", model, LanguageModel)
        require_tokenizer(tokenizer)
        self.limit = limit = room(model.config)
        if window is None and stride is not None:
            raise ValueError("stride is from one window to the next; give window too")
        if window is not None:
            window = check_whole("window", window)
            if limit is not None and window > limit:
                raise ValueError(
                    f"window: expected at most the model's max_length {limit}, got {window}; or "
                    f"{longer(model.config)}"
                )
            stride = max(1, window // 2) if stride is None else stride
            stride = check_whole("stride", stride, 1, window)
        self.model, self.batch = model, check_whole("batch", batch)
        self.first = 0 if begin else 1
        self.most = None if window is not None or limit is None else limit + self.first
        self._bases = _bases(tokenizer)
        self._begin = np.array([tokenizer.end_of_text] if begin else [], dtype=np.int64)
        self._window, self._stride = window, stride

    def log_probabilities(self, sequences: Sequence[Tokens]) -> list[LogProbabilities]:
        """Of each sequence the natural logarithms of its tokens' probabilities.

        Sequences of similar lengths run together. The model is to be in evaluation mode.

        Raises: ValueError if the model gives no finite numbers.
        """
        found = [np.full(len(tokens), np.nan) for tokens in sequences]
        pairs = zip(sequences, found, strict=True)
        rows = [row for tokens, into in pairs for row in self._rows(tokens, into)]
        lengths = [len(row.tokens) - 1 for row in rows]
        for places in similar(lengths, self.batch, self.model.config):
            self._run([rows[i] for i in places])
        return found

    def reduced(self, values: LogProbabilities, reduce: Reduce) -> float:
        """The sum or the mean of those that there are."""
        known = values[self.first :]
        return float(known.sum() if reduce == "sum" else known.mean())

    def not_acgt(self, tokens: Tokens) -> int | None:
        """How many of a sequence's tokens that have a log-probability are none of the four bases;
        None if the tokenizer is none of DNA."""
        if self._bases is None:
            return None
        return int(np.isin(tokens[self.first :], self._bases, invert=True).sum())

    def _rows(self, tokens: Tokens, into: LogProbabilities) -> Iterator[_Row]:
        """The windows of a sequence, which together score each of its targets once."""
        read = np.concatenate([self._begin, tokens])
        targets = len(read) - 1
        if targets < 1:
            return
        into = into[self.first :]
        length, stride = self._window or targets, self._stride or targets
        for start, scored, end in sliding_windows(targets, length=length, stride=stride):
            yield _Row(read[start : end + 1], scored - start, into[scored:end])

    def _run(self, rows: Sequence[_Row]) -> None:
        """One batch."""
        inputs, targets = inputs_and_targets(
            [row.tokens for row in rows], [row.score_from for row in rows]
        )
        device = next(self.model.parameters()).device
        losses = self.model.token_losses(inputs.to(device), targets.to(device))
        # Widened on the CPU: MPS has no float64.
        for of_row, (tokens, score_from, into) in zip(losses.cpu().double(), rows, strict=True):
            into[:] = -of_row[score_from : len(tokens) - 1].numpy()
            if not np.isfinite(into).all():
                raise ValueError("the model's logits are not finite; its weights may be damaged")


def _bases(tokenizer: Tokenizer) -> Tokens | None:
    """The tokens of the four bases in either case; None if the tokenizer is none of DNA."""
    if not of_nucleotides(tokenizer):
        return None
    found = tokenizer.encode("ACGTacgt")
    return found[found != getattr(tokenizer, "unknown", None)]


class _Row(NamedTuple):
    """Tokens of which each but the last is an input, and each but the first its target; those from
    ``score_from`` on are scored, ``into`` an array of them."""

    tokens: Tokens
    score_from: int
    into: LogProbabilities
