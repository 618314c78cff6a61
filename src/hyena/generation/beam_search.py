"""The likeliest continuations, by beam search."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from hyena.arguments import check_whole, number, shown
from hyena.data.tokenizer import Tokenizer
from hyena.filters.evaluation_mode import evaluation_mode
from hyena.generation.continuation import Continuation, Ending
from hyena.generation.model import Model, check_model, device_of
from hyena.generation.prompts import (
    Prompts,
    batches,
    check_room,
    pad_left,
    prompt_ids,
    require_tokens,
)
from hyena.generation.results import Finished
from hyena.generation.sampling import Alternatives, check_alternatives, likeliest, logprobs

_LARGEST_PENALTY = 20  # no power of a length with it overflows
_MOST_BEAMS = 1 << 16  # more would take hours, not find more


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
    logprobs: list[float]
    """Of each of ``tokens``."""
    alternatives: list[Alternatives]
    """The likeliest tokens in the place of each, as many as were asked for."""


@torch.no_grad()
def beam_search(
    model: Model,
    prompts: Prompts,
    *,
    tokenizer: Tokenizer | None = None,
    max_new_tokens: int = 128,
    beam_width: int = 4,
    length_penalty: float = 1.0,
    stop: str | Sequence[str] = (),
    stop_tokens: int | Sequence[int] = (),
    alternatives: int = 0,
) -> list[list[Beam]]:
    """The continuations of each prompt with the highest scores, as far as beam search finds them.

    In each round every beam is continued by every token. Of a prompt's continuations the
    ``beam_width`` likeliest that do not end are the beams of the next round; those that end are set
    aside if they are among its ``beam_width`` likeliest of all. It stops at max_new_tokens, where
    the beams end as they are, or as soon as no beam can come to a score among the best
    ``beam_width``. Nothing is drawn, and the distribution is the model's own.

    Args:
        model, prompts, tokenizer, max_new_tokens, stop, stop_tokens, alternatives: as in
            `generate`.
        beam_width: beams of a prompt, at most 65,536; with 1 each token taken is the likeliest.
        length_penalty: exponent, at least 0, of the length in the score. 0 compares probabilities,
            which favours short texts; 1 compares mean log-probabilities a token.

    Returns: for each prompt up to ``beam_width`` results, the best first.
    Raises and warns: as `generate`.
    """
    check_model("model", model)
    config = model.config
    ending = Ending.of(max_new_tokens, stop, stop_tokens, tokenizer, config.vocab_size)
    alternatives = check_alternatives(alternatives, config.vocab_size)
    penalty = number("length_penalty", length_penalty)
    beam_width = check_whole("beam_width", beam_width, 1, _MOST_BEAMS)
    if not 0 <= penalty < float("inf"):
        raise ValueError(f"length_penalty: expected at least 0, got {shown(length_penalty)}")
    if penalty > _LARGEST_PENALTY:
        raise ValueError(
            f"length_penalty: expected at most {_LARGEST_PENALTY}, got {shown(length_penalty)}"
        )
    ids = prompt_ids(prompts, tokenizer, config.vocab_size)
    require_tokens(ids)
    if not ids:
        return []
    most = ending.max_new_tokens
    check_room(config, max(map(len, ids)), most)
    searches = [_Search(beam_width, penalty, ending, alternatives, own) for own in ids]
    with evaluation_mode(cast(nn.Module, model)):
        for places in batches(config, ids):
            _search(model, [ids[i] for i in places], [searches[i] for i in places], most)
    return [search.results() for search in searches]


def _search(model: Model, prompts: list[list[int]], searches: list[_Search], most: int) -> None:
    """Runs the searches of prompts that are one batch."""
    rows = [[i] for i in range(len(prompts))]  # of the batch, those of each search's beams
    tokens, mask = pad_left(prompts, device_of(model))
    logits, state = model.prefill(tokens, mask=mask, future=most - 1, last_only=True)
    last = logits[:, -1]
    while True:
        table = logprobs(last)
        parents = [s.extend(table, own) for s, own in zip(searches, rows, strict=True)]
        rows, kept = placed(parents)
        if not kept:
            return
        if kept != list(range(len(last))):
            state = state.select(kept)
        newest = {
            row: beam.unread
            for search, own in zip(searches, rows, strict=True)
            for row, beam in zip(own, search.beams, strict=True)
        }
        read = torch.tensor([newest[row] for row in range(len(kept))], device=tokens.device)
        last, state = model.step(read, state)


def placed(parents: Sequence[Sequence[int]]) -> tuple[list[list[int]], list[int]]:
    """Rows for beams, such that as few as can be have to be copied.

    Args: for each beam of each search the row that it goes on from.
    Returns: for each beam of each search its row; for each row the one that it goes on from.
    """
    count = sum(map(len, parents))
    kept: dict[int, int] = {}
    left = []
    rows = [[0] * len(of_one) for of_one in parents]
    for search, of_one in enumerate(parents):
        for beam, parent in enumerate(of_one):
            if parent < count and parent not in kept:
                rows[search][beam] = kept[parent] = parent
            else:
                left.append((search, beam))
    free = (row for row in range(count) if row not in kept)
    for (search, beam), row in zip(left, list(free), strict=True):
        rows[search][beam], kept[row] = row, parents[search][beam]
    return rows, [kept[row] for row in range(count)]


class _Search:
    """The beams of one prompt, and those that have ended."""

    def __init__(
        self,
        width: int,
        length_penalty: float,
        ending: Ending,
        alternatives: int,
        prompt: list[int],
    ) -> None:
        self.beams = [Continuation(0, prompt, None, 0, ending)]
        self._width, self._length_penalty = width, length_penalty
        self._most, self._alternatives = ending.max_new_tokens, alternatives
        self._ended: list[Beam] = []
        self._length = 0

    def extend(self, table: Tensor, rows: Sequence[int]) -> list[int]:
        """Continues the beams, in ``rows`` of a table (B, V) of log-probabilities, by a token.

        Returns: the rows that the new beams go on from, in the beams' order.
        """
        if not self.beams:
            return []
        self._length += 1
        own = table[list(rows)]
        others = likeliest(own, self._alternatives)
        before = table.new_tensor([beam.logprob for beam in self.beams])
        following = before[:, None] + own
        live: list[Continuation] = []
        parents: list[int] = []
        for rank, (parent, token) in enumerate(_ranked(following, 2 * self._width)):
            beam = self.beams[parent].copy()
            beam.take(token, float(own[parent, token]), others[parent])
            if beam.finished in (None, "length"):
                live.append(beam)
                parents.append(rows[parent])
            elif rank < self._width:
                self._set_aside(beam)
            if len(live) == self._width:
                break
        if self._length == self._most:
            for beam in live:
                self._set_aside(beam)
            live = []
        self.beams = [] if self._is_settled(live) else live
        return parents if self.beams else []

    def results(self) -> list[Beam]:
        """The best that have ended, the best first."""
        return sorted(self._ended, key=lambda beam: -beam.score)[: self._width]

    def _set_aside(self, beam: Continuation) -> None:
        found = beam.generation()
        assert found.finished is not None
        self._ended.append(
            Beam(
                found.tokens,
                found.text,
                found.finished,
                beam.logprob,
                beam.logprob / self._length**self._length_penalty,
                found.logprobs,
                found.alternatives,
            )
        )

    def _is_settled(self, live: list[Continuation]) -> bool:
        """Whether no beam can come among the results: log-probabilities only fall."""
        if not live or len(self._ended) < self._width:
            return not live
        best = live[0].logprob / self._most**self._length_penalty
        return self.results()[-1].score >= best


def _ranked(table: Tensor, ample: int) -> Iterator[tuple[int, int]]:
    """Row and column of the entries of a table (n, V), from the largest down; of equal ones
    those in upper rows first, and in a row those further left.

    Args: ample: so many are likely to be enough.
    """
    flat = table.flatten()
    done = 0
    while done < len(flat):
        least = flat.topk(min(ample, len(flat))).values[-1]
        places = (flat >= least).nonzero()[:, 0]
        order = flat[places].argsort(descending=True, stable=True)
        ranked = places[order].tolist()
        for place in ranked[done:]:
            yield divmod(place, table.shape[1])
        done, ample = len(ranked), 2 * ample
