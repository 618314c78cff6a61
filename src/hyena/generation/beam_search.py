"""The likeliest continuations, by beam search."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from hyena.generation.ending import Ending
from hyena.generation.evaluation_mode import evaluation_mode
from hyena.generation.logprobs import logprobs
from hyena.generation.prompts import (
    Prompts,
    Tokenizer,
    check_room,
    pad_left,
    prompt_ids,
    require_tokens,
)
from hyena.generation.results import Finished
from hyena.generation.text_stream import TextStream
from hyena.model import LanguageModel


@dataclass(frozen=True)
class Beam:
    """One of the continuations that `beam_search` found."""

    tokens: list[int]
    """Token ids, as in `Generation`."""
    text: str | None
    """The text, up to the stop string; None if no tokenizer was given."""
    finished: Finished
    """Why it ended."""
    logprob: float
    """Natural logarithm of its probability under the model, that of an end of text or stop token
    that ended it included."""
    score: float
    """logprob / n ** length_penalty, where n is the number of its tokens, that end included."""


@torch.no_grad()
def beam_search(
    model: LanguageModel,
    prompts: Prompts,
    *,
    tokenizer: Tokenizer | None = None,
    max_new_tokens: int = 128,
    beam_width: int = 4,
    length_penalty: float = 1.0,
    stop: str | Sequence[str] = (),
    stop_tokens: Sequence[int] = (),
) -> list[list[Beam]]:
    """The continuations of each prompt with the highest scores, as far as beam search finds them.

    In each round every beam is continued by every token. Of a prompt's continuations the
    ``beam_width`` likeliest that do not end are the beams of the next round; those that end are set
    aside if they are among its ``beam_width`` likeliest of all. It stops at max_new_tokens, where
    the beams end as they are, or as soon as no beam can come to a score among the best
    ``beam_width``. Nothing is drawn, and the distribution is the model's own.

    Args:
        model, prompts, tokenizer, max_new_tokens, stop, stop_tokens: as in `generate`.
        beam_width: beams of a prompt; with 1 the likeliest token is taken each time.
        length_penalty: exponent, at least 0, of the length in the score. 0 compares probabilities,
            which favours short texts; 1 compares mean log-probabilities a token.

    Returns: for each prompt up to ``beam_width`` results, the best first.
    Raises: ValueError as `generate`.
    """
    config = model.config
    ending = Ending.of(max_new_tokens, stop, stop_tokens, tokenizer, config.vocab_size)
    if beam_width < 1:
        raise ValueError(f"beam_width: expected at least 1, got {beam_width}")
    if not 0 <= length_penalty < float("inf"):
        raise ValueError(f"length_penalty: expected at least 0, got {length_penalty}")
    ids = prompt_ids(prompts, tokenizer)
    require_tokens(ids)
    if not ids:
        return []
    check_room(config, max(map(len, ids)), max_new_tokens)
    searches = [_Search(beam_width, length_penalty, ending) for _ in ids]
    with evaluation_mode(model):
        tokens, mask = pad_left(ids, model.embedding.weight.device)
        logits, state = model.prefill(tokens, mask=mask, future=max_new_tokens - 1, last_only=True)
        last = logits[:, -1]
        while True:
            table = logprobs(last)
            parents = [
                row
                for search, rows in zip(searches, _rows_of(searches), strict=True)
                for row in search.extend(table, rows)
            ]
            newest = [beam.tokens[-1] for search in searches for beam in search.beams]
            if not newest:
                return [search.results() for search in searches]
            if parents != list(range(len(last))):
                state = state.select(parents)
            last, state = model.step(torch.tensor(newest, device=tokens.device), state)


@dataclass(frozen=True)
class _Live:
    """A beam that has not ended, ``text`` being what its stream has made certain."""

    tokens: list[int]
    text: str
    stream: TextStream | None
    logprob: float


class _Search:
    """The beams of one prompt, and those that have ended."""

    def __init__(self, width: int, length_penalty: float, ending: Ending) -> None:
        self.beams = [_Live([], "", ending.text_stream(), 0.0)]
        self._width, self._length_penalty, self._ending = width, length_penalty, ending
        self._ended: list[Beam] = []
        self._length = 0

    def extend(self, table: Tensor, rows: range) -> list[int]:
        """Continues the beams by a token.

        Args: table (B, V), log-probabilities of the batch's next tokens; the rows of the beams.
        Returns: the rows that the new beams go on from.
        """
        if not self.beams:
            return []
        self._length += 1
        before = table.new_tensor([beam.logprob for beam in self.beams])
        following = before[:, None] + table[rows.start : rows.stop]
        live: list[_Live] = []
        parents: list[int] = []
        for rank, (parent, token, logprob) in enumerate(_ranked(following, 2 * self._width)):
            beam, finished = self._followed(self.beams[parent], token, logprob)
            if finished is None:
                live.append(beam)
                parents.append(rows[parent])
            elif rank < self._width:
                self._set_aside(beam, finished)
            if len(live) == self._width:
                break
        if self._length == self._ending.max_new_tokens:
            for beam in live:
                self._set_aside(beam, "length")
            live = []
        self.beams = [] if self._is_settled(live) else live
        return parents if self.beams else []

    def results(self) -> list[Beam]:
        """The best that have ended, the best first."""
        return sorted(self._ended, key=lambda beam: -beam.score)[: self._width]

    def _followed(self, beam: _Live, token: int, logprob: float) -> tuple[_Live, Finished | None]:
        """The beam with one more token, and how that ends it if it does."""
        finished: Finished | None = self._ending.by_token(token)
        if finished is not None:
            return replace(beam, logprob=logprob), finished
        stream, text = None, ""
        if beam.stream is not None:
            stream = beam.stream.copy()
            text = stream.feed(token)
            finished = "stop" if stream.stopped else None
        return _Live([*beam.tokens, token], beam.text + text, stream, logprob), finished

    def _set_aside(self, beam: _Live, finished: Finished) -> None:
        text = None if beam.stream is None else beam.text + beam.stream.copy().close()
        score = beam.logprob / self._length**self._length_penalty
        self._ended.append(Beam(beam.tokens, text, finished, beam.logprob, score))

    def _is_settled(self, live: list[_Live]) -> bool:
        """Whether no beam can come among the results: log-probabilities only fall."""
        if not live or len(self._ended) < self._width:
            return not live
        best = live[0].logprob / self._ending.max_new_tokens**self._length_penalty
        return self.results()[-1].score >= best


def _rows_of(searches: Sequence[_Search]) -> list[range]:
    """The rows of the batch that each search has, one after the other."""
    ends = list(accumulate(len(search.beams) for search in searches))
    return [range(a, b) for a, b in pairwise([0, *ends])]


def _ranked(table: Tensor, ample: int) -> Iterator[tuple[int, int, float]]:
    """Row, column and value of the entries of a table (n, V), from the largest down; of equal ones
    those in upper rows first, and in a row those further left.

    Args: ample: so many are likely to be enough.
    """
    flat = table.flatten()
    done = 0
    while done < len(flat):
        least = flat.topk(min(ample, len(flat))).values[-1]
        places = (flat >= least).nonzero()[:, 0]
        values, order = flat[places].sort(descending=True, stable=True)
        entries = list(zip(places[order].tolist(), values.tolist(), strict=True))
        for place, value in entries[done:]:
            yield *divmod(place, table.shape[1]), value
        done, ample = len(entries), 2 * ample
