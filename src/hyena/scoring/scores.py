"""Log-likelihoods of sequences."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from math import isnan
from typing import Any

from hyena.data.tokenizer import Tokenizer
from hyena.filters.evaluation_mode import evaluation_mode
from hyena.model import LanguageModel

from .batches import waiting
from .scorer import LogProbabilities, Reduce, Scorer
from .sequences import OnError, Read, Reader, Sequences, SoftMasked, check_choice


@dataclass(frozen=True, eq=False)
class Score:
    """What `score` found of one sequence."""

    index: int
    """Its place among the sequences, from 0."""
    name: str
    """Its own, or its place."""
    tokens: int = 0
    """Those that have a probability."""
    not_acgt: int | None = None
    """Of these, with a tokenizer of DNA, those that are none of A, C, G and T in either case, such
    as N."""
    score: float | None = None
    """Sum or mean of the natural logarithms of their probabilities, or the mean of that of both
    strands; None if the sequence was skipped."""
    strands: tuple[float, float] | None = None
    """With both_strands, the score of the sequence and that of the other strand."""
    positions: LogProbabilities | None = None
    """The logarithm of each token's probability, (n,), if asked for; nan where nothing comes before
    the token."""
    reverse_positions: LogProbabilities | None = None
    """The same of the other strand, in the order of the sequence."""
    skipped: str | None = None
    """Why there is no score, or None."""

    def record(self) -> dict[str, Any]:
        """As JSON has it, without what there is not; null for nan."""
        found: dict[str, Any] = {"index": self.index, "name": self.name}
        if self.skipped is not None:
            return {**found, "skipped": self.skipped}
        found["tokens"] = self.tokens
        if self.not_acgt is not None:
            found["not_acgt"] = self.not_acgt
        found["score"] = self.score
        if self.strands is not None:
            found |= {"forward": self.strands[0], "reverse": self.strands[1]}
        for name in ("positions", "reverse_positions"):
            values = getattr(self, name)
            if values is not None:
                found[name] = [None if isnan(x) else x for x in values.tolist()]
        return found


def score(
    model: LanguageModel,
    tokenizer: Tokenizer,
    sequences: Sequences,
    *,
    reduce: Reduce = "sum",
    positions: bool = False,
    both_strands: bool = False,
    begin: bool = True,
    window: int | None = None,
    stride: int | None = None,
    soft_masked: SoftMasked = "fold",
    batch: int = 8,
    on_error: OnError = "stop",
) -> Iterator[Score]:
    """The log-likelihood of each sequence, in order, as far as they are asked for.

    A token's probability is that which the model gives it after all tokens before. Sequences of
    similar lengths run together, which changes nothing but the speed; a few of them are in memory
    at a time, and never the logits of a long one. The model is in evaluation mode from the first
    sequence to the last.

    Args:
        model: see `hyena.load`.
        tokenizer: see `hyena.data.load_tokenizer`.
        sequences: a text, or texts, Documents of `hyena.data`, or records of ``hyena.genomes``.
        reduce: "sum" or "mean" over a sequence's tokens.
        positions: give the log-probability of each token as well.
        both_strands: of DNA, score the reverse complement too; the score is the mean of both.
        begin: put the tokenizer's end of text before each sequence, as before each document of the
            training data. Without it a sequence's first token has no probability.
        window: most tokens that the model is given at once, for longer sequences than it takes;
            None gives it each whole. See `hyena.evaluation.sliding_windows`.
        stride: tokens from one window to the next; the smaller, the more come before each token,
            and the longer it takes. None means half the window.
        soft_masked: with a tokenizer of DNA "fold" makes lower-case letters, which mark repeats,
            upper case; "keep" keeps them. Other tokenizers read texts as they are.
        batch: sequences or windows at a time, 1 or more.
        on_error: what a sequence does that cannot be scored, such as an empty one: "stop" raises,
            "skip" says why in its place.

    Returns: an iterator of `Score`, one a sequence.
    Raises: TypeError if it is no model; ValueError on an argument out of range, on a sequence that
        cannot be scored, and if the model's logits are not finite.
    Warns: UserWarning, after the last sequence, of letters that the tokenizer does not know.
    """
    check_choice("reduce", reduce, ("sum", "mean"))
    scorer = Scorer(model, tokenizer, begin=begin, window=window, stride=stride, batch=batch)
    reader = Reader(
        model,
        tokenizer,
        both_strands=both_strands,
        on_error=on_error,
        soft_masked=soft_masked,
        least=scorer.first + 1,
        most=scorer.most,
        shorter=f"score it in windows with window={scorer.limit} (--window {scorer.limit})",
    )
    return _scores(scorer, reader.read(sequences), reduce, positions)


def _scores(
    scorer: Scorer, sequences: Generator[Read, None, None], reduce: Reduce, positions: bool
) -> Iterator[Score]:
    with evaluation_mode(scorer.model), closing(sequences):
        for some in waiting(sequences, lambda one: one.size, scorer.batch):
            values = iter(scorer.log_probabilities([x for one in some for x in one.strands]))
            for one in some:
                of_strands = [next(values) for _ in one.strands]
                yield _score(scorer, one, of_strands, reduce, positions)


def _score(
    scorer: Scorer, one: Read, values: list[LogProbabilities], reduce: Reduce, positions: bool
) -> Score:
    """Of a sequence, from the log-probabilities of its strands."""
    if one.skipped is not None:
        return Score(one.index, one.name, skipped=one.skipped)
    each = [scorer.reduced(x, reduce) for x in values]
    both = len(each) == 2
    return Score(
        one.index,
        one.name,
        tokens=len(values[0]) - scorer.first,
        not_acgt=scorer.not_acgt(one.strands[0]),
        score=sum(each) / len(each),
        strands=(each[0], each[1]) if both else None,
        positions=values[0] if positions else None,
        reverse_positions=values[1][::-1] if both and positions else None,
    )
