"""Requests of lm_eval as tokens: what a model reads, and what of it is scored."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyena.arguments import plural
from hyena.data.documents import Document, WithoutText
from hyena.data.tokenizer import Lossy, Tokenizer
from hyena.evaluation import sliding_windows

Tokens = NDArray[np.int64]
"""Of one text, (n,)."""


class Row(NamedTuple):
    """Tokens of which each but the last is an input, and each but the first its target; the targets
    from ``score_from`` on are scored."""

    tokens: Tokens
    score_from: int


class Texts:
    """Turns texts into tokens, as many as a model takes at once, and remembers what was left out.

    Args:
        tokenizer: of the model.
        length: most inputs at once.
        stride: from one window of a long text to the next. None takes lm_eval's windows: each
            begins where the one before ends, but for the last, which has as many inputs as fit.
        begin: put the tokenizer's end of text before each text.
        end: score the end of text after whole texts too.
    """

    def __init__(
        self, tokenizer: Tokenizer, *, length: int, stride: int | None, begin: bool, end: bool
    ) -> None:
        self.length, self._stride = length, stride
        self._tokenizer = tokenizer
        self._lost = tokenizer.lost if isinstance(tokenizer, Lossy) else None
        self._unknown = getattr(tokenizer, "unknown", None)
        mark = np.array([tokenizer.end_of_text], dtype=np.int64)
        self._begin, self._end = mark[: 1 if begin else 0], mark[: 1 if end else 0]
        self._forget()

    def continuation(self, name: str, context: str, continuation: str) -> Row:
        """A continuation, which is scored after its context.

        Blanks at the end of the context belong to the continuation, as in lm_eval's other models.
        Of a context that does not fit, the beginning is left out.

        Args: name: of the request, for messages.
        Raises: ValueError if the continuation has no token that can be scored, or does not fit.
        """
        stripped = context.rstrip()
        if len(stripped) == len(context + continuation):
            raise ValueError(f"{name}: its continuation is empty; there is nothing to score")
        tokens = self._tokens(name, context + continuation)
        before = len(self._tokenizer.encode(stripped)) if stripped else 0
        before = min(before, len(tokens) - 1)  # of a token that begins in the context
        whole = np.concatenate([self._begin, tokens])
        if len(whole) < 2:
            count = len(tokens)
            raise ValueError(
                f"{name}: it has {count} {plural(count, 'token')}, of which none comes after "
                "another one; give it a context, or begin=true"
            )
        score_from = max(0, before + len(self._begin) - 1)
        excess = len(whole) - 1 - self.length
        if excess > score_from:
            raise ValueError(
                f"{name}: its continuation has {len(whole) - 1 - score_from:,} tokens, but the "
                f"model is given {self.length:,} at once; give it more with max_length= (--length)"
            )
        self._unscored += not before + len(self._begin)
        if excess <= 0:
            return Row(whole, score_from)
        self._cut.append(name)
        return Row(whole[excess:], score_from - excess)

    def windows(self, name: str, text: str) -> list[Row]:
        """The windows of a text, which together score each of its tokens once; of an empty text
        there may be none."""
        whole = np.concatenate([self._begin, self._tokens(name, text), self._end])
        targets = max(0, len(whole) - 1)
        self._unscored += bool(len(whole)) and not len(self._begin)
        stride = self.length if self._stride is None else self._stride
        rows = []
        for start, scored, end in sliding_windows(targets, length=self.length, stride=stride):
            if self._stride is None:
                start = max(0, end - self.length)
            rows.append(Row(whole[start : end + 1], scored - start))
        return rows

    def prompt(self, name: str, context: str, new: int) -> list[int]:
        """A context that is gone on with by so many tokens; of one that does not fit the beginning
        is left out.

        Raises: ValueError if there is no room for a prompt, or it has no tokens.
        """
        most = self.length - new
        if most < 1:
            raise ValueError(
                f"{name}: {new:,} new tokens leave no room for a prompt, since the model is given "
                f"{self.length:,} at most; ask for fewer with max_gen_toks in generation_kwargs, "
                "or give it more with max_length= (--length)"
            )
        whole = np.concatenate([self._begin, self._tokens(name, context)])
        if not len(whole):
            raise ValueError(f"{name}: its prompt has no tokens; give begin=true")
        if len(whole) > most:
            self._cut.append(name)
        ids: list[int] = whole[-most:].tolist()
        return ids

    def notes(self) -> list[str]:
        """A line each on what was left out since they were asked for last."""
        notes = self._without.notes()
        if self._unscored:
            count = self._unscored
            notes.append(
                f"{count:,} {plural(count, 'text begins', 'texts begin')} without the end of text "
                f"(begin=false), so that {plural(count, 'its', 'their')} first token is not "
                "scored: compare these figures with none of begin=true"
            )
        if self._cut:
            count = len(self._cut)
            notes.append(
                f"{count:,} {plural(count, 'context was', 'contexts were')} too long for the "
                f"{self.length:,} tokens that the model is given at once, and lost "
                f"{plural(count, 'its', 'their')} beginning, the first that of {self._cut[0]}"
            )
        self._forget()
        return notes

    def _forget(self) -> None:
        self._without = WithoutText()
        self._cut: list[str] = []
        self._unscored = 0

    def _tokens(self, name: str, text: str) -> Tokens:
        try:
            tokens = np.asarray(self._tokenizer.encode(text), dtype=np.int64)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        document = Document(name, "")
        if self._lost is not None:
            self._without.add_lost(document, self._lost(text))
        if self._unknown is not None:
            self._without.unknown.add(name, text, tokens, self._unknown)
        return tokens
